"""Shapes of answers: text, prompt or rule, the program in it, the reason and the notes."""

from __future__ import annotations

HEAD = 'def f(x: int) -> int:\n    """Twice x."""\n'
PROMPT = HEAD
WITH_IMPORT = "from typing import List\n\n\n" + HEAD
WITH_HELPER = "import math\n\n\ndef half(x):\n    return math.floor(x / 2)\n\n\n" + HEAD
BODY = "    return 2 * x\n"
F = "def f(x):\n    return 2 * x\n"
G = "def g(x):\n    return x\n"

PREPARED = """import sys
sys.setrecursionlimit(9999)
T = []
for i in range(3):
    T.append(i)


def f(x):
    return T[x]
"""


def fenced(code: str, info: str = "python", fence: str = "```") -> str:
    return f"{fence}{info}\n{code}{fence}\n"


# name: (text, expected solution, reason, notes), all for the prompt HEAD and the entry point f.
SHAPES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    # Continuations.
    "a body": (BODY, HEAD + BODY, "continuation", ()),
    "a body after a line end": ("\n" + BODY, HEAD + "\n" + BODY, "continuation", ()),
    "a body whose first line lost its spaces": (
        "y = 2\n    return y * x\n",
        HEAD + "    y = 2\n    return y * x\n",
        "continuation",
        ("repaired_indent",),
    ),
    "a body at column 0": (
        "y = 2\nreturn y * x\n",
        HEAD + "    y = 2\n    return y * x\n",
        "continuation",
        ("repaired_indent",),
    ),
    "a body with eight spaces": ("        return 2 * x\n", HEAD + BODY, "continuation", ("repaired_indent",)),
    "a body with tabs": ("\treturn 2 * x\n", HEAD + BODY, "continuation", ("repaired_indent",)),
    "a body with tabs and spaces": (
        "    y = 2\n\treturn y * x\n",
        HEAD + "    y = 2\n    return y * x\n",
        "continuation",
        ("repaired_tabs",),
    ),
    "a body with Windows line ends": (
        "    y = 2\r\n    return y\r\n",
        HEAD + "    y = 2\n    return y\n",
        "continuation",
        (),
    ),
    "a body and a print": (BODY + "\nprint(f(1))\n", HEAD + BODY, "continuation", ("cut",)),
    "a body and tests": (BODY + "\nassert f(1) == 2\n", HEAD + BODY, "continuation", ("cut",)),
    "a body and a main": (
        BODY + "\nif __name__ == '__main__':\n    f(1)\n",
        HEAD + BODY,
        "continuation",
        ("cut",),
    ),
    "a body and another function": (BODY + "\n" + G, HEAD + BODY, "continuation", ("cut",)),
    "a body and the function that it calls": (
        "    return g(x)\n\n\n" + G,
        HEAD + "    return g(x)\n\n\n" + G,
        "continuation",
        (),
    ),
    "a body and the function again": (
        BODY + "\ndef f(x):\n    return 0\n",
        HEAD + BODY,
        "continuation",
        ("cut",),
    ),
    "a body and prose": (BODY + "\nThis doubles x, as asked.\n", HEAD + BODY, "continuation", ("cut",)),
    "a body and a closing fence": (BODY + "```\nThis doubles x.\n", HEAD + BODY, "continuation", ()),
    "a body and a block of tests": (
        BODY + "\n" + fenced("assert f(1) == 2\n"),
        HEAD + BODY,
        "continuation",
        (),
    ),
    "a body that breaks off": (
        "    y = 2\n    return (y",
        HEAD + "    y = 2\n",
        "continuation",
        ("cut",),
    ),
    "a body that never parses": ("    if x\n", HEAD + "    if x\n", "continuation", ("unparsable",)),
    # Whole programs without fences.
    "the function": (F, F, "program", ()),
    "the prompt and a body": (HEAD + BODY, HEAD + BODY, "program", ()),
    "the prompt twice": (HEAD + HEAD + BODY, HEAD + HEAD + BODY, "program", ()),
    "the function and tests": (F + "\n\nassert f(1) == 2\nprint('ok')\n", F, "program", ("cut",)),
    "a byte order mark": ("\ufeff" + F, F, "program", ()),
    "NULs": ("\0def f(x):\0\n    return 2 * x\n", F, "program", ()),
    "spaces that are not ASCII": ("def f(x):\n\u00a0\u00a0\u00a0\u00a0return 2 * x\n", F, "program", ()),
    "a lone surrogate": ("def f(x):\n    return '\ud800'\n", "def f(x):\n    return '?'\n", "program", ()),
    "a broken function": ("def f(x)\n    return x\n", "def f(x)\n    return x\n", "program", ("unparsable",)),
    "an async function": (
        "async def f(x):\n    return x\n",
        "async def f(x):\n    return x\n",
        "program",
        (),
    ),
    "a lambda": ("f = lambda x: 2 * x\n", "f = lambda x: 2 * x\n", "program", ()),
    # Fences.
    "a fence": (fenced(F), F, "fenced", ()),
    "a fence in prose": (f"Sure!\n\n{fenced(F)}\nIt works.\n", F, "fenced", ()),
    "a fence without a language": (fenced(F, ""), F, "fenced", ()),
    "tildes": (fenced(F, "python", "~~~"), F, "fenced", ()),
    "four backticks": (fenced(F, "python", "````"), F, "fenced", ()),
    "Windows line ends in a fence": (fenced(F).replace("\n", "\r\n"), F, "fenced", ()),
    "an info string with attributes": (fenced(F, 'Python3 title="f.py"'), F, "fenced", ()),
    "an info string in braces": (fenced(F, "{.python .numberLines}"), F, "fenced", ()),
    "a file name as info": (fenced(F, "src/answer.py"), F, "fenced", ()),
    "an unclosed fence": (f"Sure!\n```python\n{F}", F, "fenced_unclosed", ()),
    "an unclosed fence that breaks off": (
        f"```python\n{F}\ndef g(x):\n    retu",
        F,
        "fenced_unclosed",
        ("cut",),
    ),
    "an unclosed fence before another": (
        f"```python\n{F}\n```python\nprint(f(1))\n```\n",
        F,
        "fenced_unclosed",
        (),
    ),
    "a fence in a list": (
        "1. Code:\n\n   ```python\n   def f(x):\n       return 2 * x\n   ```\n\n2. Done.\n",
        F,
        "fenced",
        (),
    ),
    "a fence behind a list mark": ("- ```python\n  def f(x):\n      return 2 * x\n  ```\n", F, "fenced", ()),
    "a fence in a quotation": ("> ```python\n> def f(x):\n>     return 2 * x\n> ```\n", F, "fenced", ()),
    "a fence in a docstring": (
        fenced('def f(x):\n    """Twice.\n\n    ```\n    f(1)\n    ```\n    """\n    return 2 * x\n'),
        'def f(x):\n    """Twice.\n\n    ```\n    f(1)\n    ```\n    """\n    return 2 * x\n',
        "fenced",
        (),
    ),
    "a fence that the prompt opened": (F + "```\n\nThis doubles x.\n", F, "prefilled", ()),
    "only a body in a fence": (fenced(BODY), HEAD + BODY, "fenced", ("repaired_body",)),
    "only a body at column 0 in a fence": (
        fenced("return 2 * x\n"),
        HEAD + BODY,
        "fenced",
        ("repaired_indent", "repaired_body"),
    ),
    "the last of two versions": (
        fenced("def f(x):\n    return x\n") + "Better:\n" + fenced(F),
        F,
        "fenced",
        (),
    ),
    "a usage block after it": (fenced(F) + "Usage:\n" + fenced("print(f(1))\n"), F, "fenced", ()),
    "an output block after it": (fenced(F) + fenced("2\n", ""), F, "fenced", ()),
    "a last version that is broken": (fenced(F) + fenced("def f(x:\n    return\n"), F, "fenced", ()),
    "a shell block before it": (fenced("pip install numpy\n", "bash") + fenced(F), F, "fenced", ()),
    "another language as well": (
        fenced(F) + fenced("function f(x) { return 2 * x }\n", "js"),
        F,
        "fenced",
        (),
    ),
    "a wrong language tag": (fenced(F, "javascript"), F, "fenced", ("other_language",)),
    "helpers in a block of their own": (
        fenced(G) + fenced("def f(x):\n    return g(x)\n"),
        G + "\n\ndef f(x):\n    return g(x)\n",
        "fenced",
        ("joined_blocks",),
    ),
    "tests in the block": (
        fenced(F + "\n\ndef test_f():\n    assert f(1) == 2\n\n\ntest_f()\n"),
        F,
        "fenced",
        ("cut",),
    ),
    "a main in the block": (
        fenced(F + "\nif __name__ == '__main__':\n    print(f(int(input())))\n"),
        F,
        "fenced",
        ("cut",),
    ),
    "a block with what prepares": (
        fenced(PREPARED + "\n\nsys.exit(0)\n"),
        PREPARED,
        "fenced",
        ("cut",),
    ),
    "a block that is indented": (
        fenced("    def f(x):\n        return 2 * x\n"),
        F,
        "fenced",
        ("repaired_indent",),
    ),
    "a block that is broken": (
        fenced("def f(x):\n    return (2\n"),
        "def f(x):\n    return (2\n",
        "fenced",
        ("unparsable",),
    ),
    "a block with prose in it": (fenced(F + "\nThis is the answer.\n"), F, "fenced", ("salvaged",)),
    "a block without the function": (fenced(G), G, "fenced", ("no_entry_point",)),
    "only a shell block": (fenced("pip install numpy\n", "bash"), "", "no_code", ()),
    "inline fences": ("Use ```f(x)``` here.\n", "", "no_code", ()),
    # Prose.
    "code in prose": ("Here is the function:\n\n" + F + "\nIt doubles x.\n", F, "chat_code", ()),
    "code in prose, indented": (
        "The function:\n\n    def f(x):\n        return 2 * x\n\nDone.\n",
        F,
        "chat_code",
        (),
    ),
    "words": ("I cannot help with that.\n", "", "no_code", ()),
    "one word": ("Sure", "", "no_code", ()),
    "words that parse": ("Answer: 42\n", "", "no_code", ()),
    "empty": ("", "", "empty", ()),
    "white space": (" \n\t\r\n ", "", "empty", ()),
    # Tags.
    "the tags of Code Llama": (f"[PYTHON]\n{F}[/PYTHON]\nDone.\n", F, "tagged", ()),
    "the tags of MBPP": (f"[BEGIN]\n{F}[DONE]\n", F, "tagged", ()),
    "an answer tag without an end": (f"My answer.\n<answer>\n{F}", F, "tagged", ()),
    # Thinking.
    "thinking": (f"<think>\ndef f(x): return 0\n</think>\n\n{fenced(F)}", F, "fenced", ()),
    "thinking that the template opened": (f"def f(x): return 0\n</think>\n{F}", F, "program", ()),
    "thinking twice": (f"<think>a</think>\nSo:\n<think>b</think>\n{fenced(F)}", F, "fenced", ()),
    "thinking that mentions its tag": (f"<think>a <think> b</think> c</think>\n{F}", F, "program", ()),
    "thinking without an end": ("<think>\n" + fenced(F), "", "thinking_unclosed", ()),
    "thinking without an end after an answer": (fenced(F) + "<think>Is it", F, "fenced", ()),
    "thinking alone": ("<think>What now?</think>\n", "", "empty", ()),
    "thinking in brackets": (f"[THINK]hm[/THINK]{F}", F, "program", ()),
    "channels": (
        f"<|channel|>analysis<|message|>{fenced(G)}<|end|><|start|>assistant<|channel|>final<|message|>{fenced(F)}<|return|>",
        F,
        "fenced",
        (),
    ),
    "channels without an answer": (f"<|channel|>analysis<|message|>{fenced(F)}", "", "thinking_unclosed", ()),
    "a quoted thinking tag": (
        "def f(x):\n    return '<think>'\n",
        "def f(x):\n    return '<think>'\n",
        "program",
        (),
    ),
    # Special tokens.
    "an end of text": (BODY + "<|endoftext|>import os\n", HEAD + BODY, "continuation", ()),
    "an end of turn": (fenced(F) + "<|im_end|>\n<|im_start|>user\nThanks", F, "fenced", ()),
    "Llama's end": (F + "<|eot_id|>", F, "program", ()),
    "an end of sentence": (F + "</s>", F, "program", ()),
    "a DeepSeek end": (F + "<｜end▁of▁sentence｜>", F, "program", ()),
    "fill-in-the-middle tokens": (BODY + "<|fim_pad|>x<fim_suffix>", HEAD + BODY, "continuation", ()),
    "a header": ("<|start_header_id|>assistant<|end_header_id|>\n\n" + F, F, "program", ()),
    "a ChatML header": ("<|im_start|>assistant\n" + F, F, "program", ()),
    "HTML that looks like a token": (
        "def f(x):\n    return '<s>' + x + '</s>'\n",
        "def f(x):\n    return '<s>' + x + '</s>'\n",
        "program",
        (),
    ),
}
