"""All MiniPy families, by topic, in a fixed order."""

from codegen_eval.benchmarks.minipy.families.algorithms import ALGORITHMS
from codegen_eval.benchmarks.minipy.families.counting import COUNTING
from codegen_eval.benchmarks.minipy.families.dictionaries import DICTIONARIES
from codegen_eval.benchmarks.minipy.families.lists import LISTS
from codegen_eval.benchmarks.minipy.families.numbers import NUMBER_TASKS
from codegen_eval.benchmarks.minipy.families.questions import QUESTIONS
from codegen_eval.benchmarks.minipy.families.recursion import RECURSION
from codegen_eval.benchmarks.minipy.families.strings import STRINGS

FAMILIES = (
    *QUESTIONS,
    *COUNTING,
    *LISTS,
    *STRINGS,
    *DICTIONARIES,
    *NUMBER_TASKS,
    *ALGORITHMS,
    *RECURSION,
)

__all__ = ["FAMILIES"]
