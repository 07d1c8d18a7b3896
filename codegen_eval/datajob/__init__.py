"""The offline data job: prompts in, a `datasets` folder of preference pairs out (docs/generate_data.md)."""
