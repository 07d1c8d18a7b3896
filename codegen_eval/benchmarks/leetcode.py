"""What programs for LeetCode problems take for given: imports, and the classes of lists and trees."""

from __future__ import annotations

IMPORTS = """
import re, sys, copy, math, heapq, bisect, string, random, datetime, operator, itertools, functools
import collections
from math import floor, ceil, factorial, sqrt, gcd, log, log2, inf
from sys import maxsize, stdin
from copy import deepcopy
from bisect import bisect_left, bisect_right, insort, insort_left, insort_right
from itertools import accumulate, chain, combinations, count, cycle, groupby, islice
from itertools import pairwise, permutations, product, repeat, zip_longest
from heapq import heapify, heappop, heappush, heappushpop, heapreplace, merge, nlargest, nsmallest
from collections import Counter, ChainMap, OrderedDict, defaultdict, deque, namedtuple
from functools import cache, cmp_to_key, lru_cache, partial, reduce
from operator import itemgetter, or_, xor
from typing import Any, Callable, Dict, Generator, Iterable, Iterator
from typing import List, NamedTuple, Optional, Set, Tuple, Union
"""
# Installed packages are hidden from programs: these are there where the sandbox was given them.
LIBRARIES = """
try:
    import sortedcontainers
    from sortedcontainers import SortedDict, SortedList, SortedSet
except ImportError:
    pass
"""
NODES = """
class ListNode:
    def __init__(self, val=0, next=None):
        self.val, self.next = val, next


class TreeNode:
    def __init__(self, val=0, left=None, right=None, next=None):
        self.val, self.left, self.right, self.next = val, left, right, next
"""
