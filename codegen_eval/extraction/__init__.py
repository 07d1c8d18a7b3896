"""What a model's text holds: its program, assertion lines, and the examples of a prompt's docstring.

Pure functions on text. Nothing is executed, imported or evaluated beyond `ast.literal_eval`, and the work is
bounded however long, deep or broken the text is: it was written by a model that may be hostile.
"""

from codegen_eval.extraction.answers import Extracted, Rule, extract, extract_samples
from codegen_eval.extraction.assertion_lines import assertions, calls_entry_point, to_test
from codegen_eval.extraction.examples import docstring, docstring_examples
from codegen_eval.extraction.parsing import parse_statements
from codegen_eval.extraction.programs import program

__all__ = [
    "Extracted",
    "Rule",
    "assertions",
    "calls_entry_point",
    "docstring",
    "docstring_examples",
    "extract",
    "extract_samples",
    "parse_statements",
    "program",
    "to_test",
]
