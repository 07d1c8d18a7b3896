"""Questions with answers that are numbers, from a local JSONL file in GSM8K's format."""

from __future__ import annotations

from pathlib import Path

from alignment.mrt.styles import last_number
from alignment.mrt.traces import Question
from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import read_jsonl

QUESTION_KEYS = ("question", "prompt")


def read_questions(path: Path, template: str, limit: int | None = None) -> list[Question]:
    """Rows with `question` (or `prompt`) and `answer`; the answer's last number is the right one.

    GSM8K's answers are solutions that end with `#### 72`. Keys are row numbers. A question that comes twice
    is taken once.

    Args:
        path: The file.
        template: The prompt, with `{question}` in it.
        limit: Only the first so many.

    Raises:
        CodealignError: For a missing or empty file, a row without the two texts, or an answer without a
            number; the row is named.
    """
    if not path.is_file():
        raise CodealignError(f"no such file of questions: {path}")
    found: dict[str, Question] = {}
    for number, row in enumerate(read_jsonl(path)):
        where = f"row {number + 1} of {path}"
        text = next((row[key] for key in QUESTION_KEYS if key in row), None)
        answer = row.get("answer")
        if not isinstance(text, str) or not text.strip() or not isinstance(answer, str):
            raise CodealignError(f"{where} needs the texts {' or '.join(QUESTION_KEYS)} and answer")
        if last_number(answer) is None:
            raise CodealignError(f"{where} has no number in its answer: {answer[-60:]!r}")
        prompt = template.replace("{question}", text)
        found.setdefault(prompt, Question(str(number), prompt, answer))
        if limit is not None and len(found) == limit:
            break
    if not found:
        raise CodealignError(f"{path} holds no questions")
    return list(found.values())
