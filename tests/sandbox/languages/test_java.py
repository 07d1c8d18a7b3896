"""Programs in Java: what works, and what hostile ones come to."""

import pytest

from tests.sandbox.languages import cases
from tests.sandbox.languages.cases import case

pytestmark = cases.needs("java")

IMPORTS = "import java.util.*; import java.io.*;"


def java(body, more=""):
    return f"{IMPORTS} public class A {{ static int z; {more} public static void main(String[] a) throws Exception {{ {body} }} }}"


CASES = [
    case(
        "double",
        java("System.out.println(2 * new Scanner(System.in).nextInt());"),
        "passed",
        stdin="21",
        expected="42",
    ),
    case(
        "no public class",
        "class Helper {} class Prog { public static void main(String[] a) { System.out.println(42); } }",
        "passed",
        expected="42",
    ),
    case(
        "public class without main",
        "public class Helper {} class Prog { public static void main(String[] a) { System.out.println(42); } }",
        "passed",
        expected="42",
    ),
    case(
        "package and noise",
        "package foo.bar; class B { int x; class Inner {} }\npublic class Foo { /* static void main( */ String s = \"class Q {\"; char c = '{'; public static void main(String... a) { System.out.println(new B().x); } }",
        "passed",
        expected="0",
    ),
    case(
        "record and interface",
        "interface I { int f(); } record R(int f) implements I {} class M { public static void main(String[] a) { System.out.println(new R(7).f()); } }",
        "passed",
        expected="7",
    ),
    case(
        "megabytes of input",
        java(
            "var r = new BufferedReader(new InputStreamReader(System.in)); long s = 0; var t = new StringTokenizer(r.readLine()); while (t.hasMoreTokens()) s += Integer.parseInt(t.nextToken()); System.out.println(s);"
        ),
        "passed",
        stdin="1 " * 10**6,
        expected="1000000",
        cpu_seconds=5.0,
    ),
    case("wrong", java("System.out.println(43);"), "wrong_answer", expected="42"),
    case("exit status", java("System.exit(3);"), "runtime_error", "exit 3"),
    case(
        "exception",
        java('throw new IllegalStateException("boo");'),
        "runtime_error",
        "IllegalStateException",
        message="boo",
    ),
    case("assertion", java("assert z == 1;"), "runtime_error", "AssertionError"),
    case("loop", java("while (true) z++;"), "timeout", "cpu"),
    case("sleep", java("Thread.sleep(1000000);"), "timeout", "wall", wall_seconds=2.0),
    case(
        "memory in the heap",
        java("List<byte[]> l = new ArrayList<>(); while (true) l.add(new byte[1 << 20]);"),
        "memory_limit",
        cpu_seconds=8.0,
        wall_seconds=30.0,
    ),
    case(
        "memory outside the heap",
        java(
            "List<Object> l = new ArrayList<>(); while (true) l.add(java.nio.ByteBuffer.allocateDirect(1 << 20));"
        ),
        "memory_limit",
        cpu_seconds=8.0,
        wall_seconds=30.0,
    ),
    case(
        "deep recursion",
        java("System.out.println(f(50000));", "static int f(int n) { return n == 0 ? 0 : 1 + f(n - 1); }"),
        "passed",
        expected="50000",
    ),
    case(
        "endless recursion",
        java("System.out.println(f(1));", "static int f(int n) { return 1 + f(n + 1); }"),
        "runtime_error",
        "StackOverflowError",
    ),
    case(
        "thread with a large stack",
        java('var t = new Thread(null, () -> System.out.println(42), "t", 1 << 27); t.start(); t.join();'),
        "passed",
        expected="42",
    ),
    case(
        "thread flood",
        java(
            'int n = 0; try { while (n < 5000) { var t = new Thread(() -> { try { Thread.sleep(100000); } catch (Exception e) {} }); t.start(); n++; } } catch (Throwable e) {} System.out.println(n < 100 ? "few" : "many"); Runtime.getRuntime().halt(0);'
        ),
        ("passed", "wrong_answer"),
        expected="few",
        cpu_seconds=5.0,
    ),
    case(
        "output flood",
        java('for (;;) System.out.println("x".repeat(1000));'),
        "output_limit",
        "output",
        cpu_seconds=5.0,
    ),
    case(
        "child process",
        java(
            'try { Runtime.getRuntime().exec("/bin/true"); System.out.println(1); } catch (IOException e) { System.out.println(0); }'
        ),
        "passed",
        expected="0",
    ),
    case(
        "network",
        java(
            'try { new java.net.Socket("127.0.0.1", 80); System.out.println(1); } catch (IOException e) { System.out.println(0); }'
        ),
        "passed",
        expected="0",
    ),
    case(
        "files of this machine",
        java(
            'for (String d : new String[]{"/etc/ssl", "/home", "/root", "/proc", "/var", "/tmp/outside"}) if (new File(d).list() != null) System.out.println(d); if (new File("/etc/passwd").exists()) System.out.println("passwd");'
        ),
        "passed",
    ),
    case(
        "native code",
        java(
            'try (var o = new FileOutputStream("a.so")) { o.write(1); } try { System.load("/tmp/a.so"); System.out.println("yes"); } catch (Throwable e) { System.out.println("no"); }'
        ),
        "passed",
        expected="no",
    ),
    case("compile error", java("undefined();"), "syntax_error", "compile", message="cannot find symbol"),
    case("no class at all", "int x = 5;", "syntax_error", "compile"),
    case(
        "annotation processor",
        '@javax.annotation.processing.SupportedAnnotationTypes("*") public class A extends javax.annotation.processing.AbstractProcessor { public boolean process(java.util.Set<? extends javax.lang.model.element.TypeElement> a, javax.annotation.processing.RoundEnvironment r) { while (true); } public static void main(String[] a) { System.out.println(42); } }',
        "passed",
        expected="42",
    ),
    case("empty", "", ("syntax_error", "runtime_error")),
]


@pytest.mark.parametrize("record", CASES)
def test_program_comes_to_its_verdict(record):
    cases.check("java", CASES, record)


def test_no_process_and_no_file_is_left():
    assert cases.what_is_left("java", CASES) == cases.NOTHING
