"""Programs in C++: what works, and what hostile ones come to."""

import pytest

from tests.sandbox.languages import cases
from tests.sandbox.languages.cases import case

pytestmark = cases.needs("cpp")

CASES = [
    case(
        "double",
        "#include <iostream>\nint main() { long n; std::cin >> n; std::cout << 2 * n << std::endl; }",
        "passed",
        stdin="21",
        expected="42",
    ),
    case(
        "all headers",
        "#include <bits/stdc++.h>\nusing namespace std;\nint main() { int n; cin >> n; vector<int> v(n); iota(v.begin(), v.end(), 0); cout << accumulate(v.begin(), v.end(), 0); }",
        "passed",
        stdin="10",
        expected="45",
    ),
    case(
        "all headers after a pragma and a macro",
        '#pragma GCC optimize("O3")\n#define LOCAL 1\n#include <bits/stdc++.h>\nusing namespace std;\n'
        "int main() { long long n; cin >> n; cout << n * n; }",
        "passed",
        stdin="3000000000",
        expected="9000000000000000000",
    ),
    case(
        "threads",
        '#include <thread>\n#include <cstdio>\nint main() { int x = 0; std::thread t([&] { x = 5; }); t.join(); printf("%d", x); }',
        "passed",
        expected="5",
    ),
    case(
        "deep recursion",
        '#include <cstdio>\nint f(int n) { volatile char b[100]; b[0] = 1; return n ? f(n - 1) + b[0] : 0; }\nint main() { printf("%d", f(200000)); }',
        "passed",
        expected="200000",
    ),
    case(
        "exception",
        '#include <stdexcept>\nint main() { throw std::runtime_error("boo"); }',
        "runtime_error",
        "SIGABRT",
        message="boo",
    ),
    case(
        "memory",
        "#include <vector>\nint main() { std::vector<char> v(1ul << 33); return v[5]; }",
        "memory_limit",
        "SIGABRT",
        message="bad_alloc",
    ),
    case(
        "wrong",
        "#include <iostream>\nint main() { std::cout << 43; }",
        "wrong_answer",
        expected="42",
        message="token 0 differs",
    ),
    case(
        "constructor that exits before main",
        "#include <cstdlib>\nstruct A { A() { _Exit(0); } } a;\nint main() {}",
        "wrong_answer",
        expected="42",
    ),
    case(
        "compile error is bounded",
        "#include <map>\n#include <string>\nint main() { std::map<std::string, int> m; m.insert(m, m, m); m << m; }",
        "syntax_error",
        "compile",
    ),
    case(
        "template bomb",
        "template <int A, int B> struct F { static const int v = F<A - 1, B>::v + F<A - 1, B + 1>::v; };\nint main() { return F<400, 0>::v; }",
        "syntax_error",
        "compile",
    ),
    case(
        "exponential templates",
        "template <class... T> struct L {};\ntemplate <class A> struct D;\n"
        "template <class... T> struct D<L<T...>> { using t = L<T..., T...>; };\n"
        "template <int N> struct E { using t = typename D<typename E<N - 1>::t>::t; };\n"
        "template <> struct E<0> { using t = L<int>; };\nE<40>::t x;\nint main() {}",
        ("timeout", "memory_limit"),
        "compile",
    ),
    case(
        "endless constexpr",
        "constexpr unsigned f() { unsigned n = 0; for (unsigned i = 0; i < 4000000000u; i++) n += i; return n; }\nconstexpr unsigned x = f();\nint main() { return x; }",
        ("syntax_error", "timeout"),
        "compile",
    ),
    case(
        "linker options in the source",
        '#pragma comment(linker, "/etc/passwd")\n__asm__(".section .drectve");\nint main() {}',
        "passed",
    ),
]


@pytest.mark.parametrize("record", CASES)
def test_program_comes_to_its_verdict(record):
    cases.check("cpp", CASES, record)


def test_no_process_and_no_file_is_left():
    assert cases.what_is_left("cpp", CASES) == cases.NOTHING
