"""Programs in C: what works, and what hostile ones come to."""

import pytest

from tests.sandbox.languages import cases
from tests.sandbox.languages.cases import case

pytestmark = cases.needs("c")

INCLUDES = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <signal.h>
#include <dirent.h>
#include <fcntl.h>
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
"""


def c(body, before=""):
    return f"{INCLUDES}{before}\nint main(int argc, char **argv) {{ {body} return 0; }}"


BOMB = "\n".join(f"#define {b} " + f"{a} " * 10 for a, b in zip("xABCDEF", "ABCDEFG", strict=True))
CASES = [
    case("hello", c('printf("hello\\n");'), "passed", expected="hello\n"),
    case("double", c('long n; scanf("%ld", &n); printf("%ld", 2 * n);'), "passed", stdin="21", expected="42"),
    case("wrong", c('puts("43");'), "wrong_answer", expected="42"),
    case(
        "megabytes of input",
        c('long s = 0, x; while (scanf("%ld", &x) == 1) s += x; printf("%ld", s);'),
        "passed",
        stdin="1 " * 10**6,
        expected="1000000",
    ),
    case(
        "dev stdin",
        c('freopen("/dev/stdin", "r", stdin); int n; scanf("%d", &n); printf("%d", n);'),
        "passed",
        stdin="7",
        expected="7",
    ),
    case("exit status", c("exit(3);"), "runtime_error", "exit 3"),
    case("exit status that a launcher might use", c("exit(73);"), "runtime_error", "exit 73"),
    case("right answer and bad exit", c('puts("42"); exit(1);'), "runtime_error", "exit 1", expected="42"),
    case("segfault", c("*(volatile int *)0 = 1;"), "runtime_error", "SIGSEGV"),
    case("abort", c("abort();"), "runtime_error", "SIGABRT"),
    case("division by zero", c("volatile int z = 0; return 77 / z;"), "runtime_error", "SIGFPE"),
    case(
        "assertion",
        c("assert(argc == 5);", "#include <assert.h>"),
        "runtime_error",
        "SIGABRT",
        message="Assertion",
    ),
    case("loop", c("for (volatile int i = 0;; i++);"), "timeout", "cpu"),
    case(
        "loop that ignores signals",
        c("for (int i = 1; i < 64; i++) signal(i, SIG_IGN); for (;;);"),
        "timeout",
        "cpu",
    ),
    case("sleep", c("sleep(1000);"), "timeout", "wall", wall_seconds=1.0),
    case(
        "threads that spin",
        c(
            "pthread_t t; for (int i = 0; i < 8; i++) pthread_create(&t, 0, spin, 0); spin(0);",
            "void *spin(void *p) { for (volatile int i = 0;; i++); }",
        ),
        "timeout",
        "cpu",
    ),
    case("memory", c("for (;;) { char *p = malloc(1 << 20); memset(p, 1, 1 << 20); }"), "memory_limit"),
    case("memory asked for and refused", c("return malloc(1L << 33) ? 0 : 9;"), "runtime_error", "exit 9"),
    case(
        "shared memory",
        c(
            "for (;;) { char *p = mmap(0, 1 << 20, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0); if (p == MAP_FAILED) return 9; memset(p, 1, 1 << 20); }"
        ),
        "runtime_error",
        "exit 9",
    ),
    case("static memory", "char a[1L << 33]; int main(void) { return a[5]; }", "memory_limit"),
    case(
        "stack",
        c("return f(1);", "int f(int n) { volatile char b[9999]; b[0] = n; return f(n + 1) + b[0]; }"),
        ("runtime_error", "memory_limit"),
    ),
    case("output flood", c('for (;;) puts("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");'), "output_limit", "output"),
    case(
        "error flood",
        c('for (;;) fputs("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", stderr);'),
        "output_limit",
        "output",
    ),
    case("error text is not compared", c('fputs("noise", stderr); puts("42");'), "passed", expected="42"),
    case(
        "files flood",
        c(
            'char n[30]; int made = 0; for (int i = 0; i < 100000; i++) { sprintf(n, "f%d", i); int fd = open(n, O_CREAT | O_WRONLY, 0600); if (fd >= 0) made++, close(fd); } puts(made < 5000 ? "few" : "many");'
        ),
        "passed",
        expected="few",
    ),
    case(
        "disk flood",
        c(
            'static char b[1 << 20]; char n[30]; long got = 0; signal(SIGXFSZ, SIG_IGN); for (int i = 0; i < 400; i++) { sprintf(n, "f%d", i); int fd = open(n, O_CREAT | O_WRONLY, 0600); for (int j = 0; j < 16; j++) { int w = write(fd, b, 1 << 20); if (w > 0) got += w; } close(fd); } puts(got < 64 << 20 ? "few" : "many");'
        ),
        "passed",
        expected="few",
        cpu_seconds=3.0,
    ),
    case(
        "fork bomb",
        c(
            'int made = 0; for (int i = 0; i < 1000; i++) { int p = fork(); if (p > 0) made++; if (p == 0) for (;;); } printf("%d", made);'
        ),
        "passed",
        expected="0",
    ),
    case(
        "vfork and clone",
        c('int a = syscall(SYS_vfork) , b = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); printf("%d %d", a, b);'),
        "passed",
        expected="-1 -1",
    ),
    case(
        "thread flood",
        c(
            'pthread_t t; int n = 0; while (n < 5000 && !pthread_create(&t, 0, rest, 0)) n++; puts(n < 100 ? "few" : "many"); exit(0);',
            "void *rest(void *p) { for (;;) sleep(100); }",
        ),
        "passed",
        expected="few",
    ),
    case(
        "kill everything",
        c('printf("%d %d %d", kill(-1, 9), kill(1, 9), kill(getppid(), 9));'),
        "passed",
        expected="-1 -1 -1",
    ),
    case(
        "trace",
        c(
            'printf("%ld %ld", ptrace(PTRACE_TRACEME, 0, 0, 0), (long)syscall(SYS_process_vm_readv, 1, 0, 0, 0, 0, 0));'
        ),
        "passed",
        expected="-1 -1",
    ),
    case(
        "limits of the zygote",
        c('struct rlimit r = {1, 1}; printf("%d", prlimit(1, RLIMIT_NOFILE, &r, 0));'),
        "passed",
        expected="-1",
    ),
    case(
        "namespaces and mounts",
        c(
            'printf("%ld %ld %ld", syscall(SYS_unshare, 0x10000000), syscall(SYS_mount, "a", "/tmp", "tmpfs", 0, 0), syscall(SYS_chroot, "/tmp"));'
        ),
        "passed",
        expected="-1 -1 -1",
    ),
    case(
        "odd calls",
        c(
            'printf("%ld %ld %ld %ld", syscall(SYS_keyctl, 0, 0, 0, 0, 0), syscall(425, 1, 0), syscall(323, 0), syscall(SYS_bpf, 0, 0, 0));'
        ),
        "passed",
        expected="-1 -1 -1 -1",
    ),
    case(
        "foreign convention",
        c('__asm__ volatile("int $0x80" :: "a"(20)); puts("42");'),
        "violation",
        "SIGSYS",
    ),
    case(
        "network",
        c('printf("%d %d", socket(AF_INET, SOCK_STREAM, 0), socket(AF_UNIX, SOCK_STREAM, 0));'),
        "passed",
        expected="-1 -1",
    ),
    case(
        "files of this machine",
        c(
            'const char *n[] = {"/etc", "/home", "/root", "/proc", "/sys", "/usr/bin", "/var", "/usr/include", "/tmp/outside"}; for (int i = 0; i < 9; i++) if (opendir(n[i])) puts(n[i]); if (fopen("/etc/passwd", "r")) puts("passwd");'
        ),
        "passed",
    ),
    case(
        "its own directory",
        c(
            'DIR *d = opendir("."); struct dirent *e; while ((e = readdir(d))) if (e->d_name[0] != 46) puts(e->d_name);'
        ),
        "passed",
        expected="program",
    ),
    case(
        "descriptors",
        c('for (int i = 3; i < 1024; i++) if (fcntl(i, F_GETFD) >= 0) printf("%d ", i);'),
        "passed",
    ),
    case(
        "input is not to be changed",
        c('printf("%d", (int)write(0, "x", 1)); char b[9] = {0}; read(0, b, 8); printf("%s", b);'),
        "passed",
        stdin="abc",
        expected="-1abc",
    ),
    case("environment", c('printf("%d", getenv("SBX_SECRET") != 0);'), "passed", expected="0"),
    case(
        "odd bytes",
        c('fwrite("a\\0b\\xff\\xfe\\x1b[31m", 1, 10, stdout);'),
        "passed",
        expected="a\0b\xff\xfe\x1b[31m",
    ),
    case(
        "compile error",
        "int main(void) { return undefined_name; }",
        "syntax_error",
        "compile",
        message="undefined_name",
    ),
    case("empty", "", "syntax_error", "compile"),
    case(
        "include of a file of this machine",
        '#include "/etc/passwd"\nint main(void) {}',
        "syntax_error",
        "compile",
        message="No such file",
    ),
    case(
        "include of a secret",
        '#include "/tmp/outside/secret.txt"\nint main(void) {}',
        "syntax_error",
        "compile",
        message="No such file",
    ),
    case(
        "binary include",
        '__asm__(".incbin \\"/etc/passwd\\"");\nint main(void) {}',
        "syntax_error",
        "compile",
    ),
    case(
        "include of an endless file",
        '#include "/dev/zero"\nint main(void) {}',
        ("memory_limit", "timeout"),
        "compile",
    ),
    case("include of itself", '#include "main.c"\nint main(void) {}', "syntax_error", "compile"),
    case("macro bomb", f"{BOMB}\nG G G G\nint main(void) {{}}", ("syntax_error", "output_limit"), "compile"),
    case(
        "assembler bomb",
        '__asm__(".rept 1000000000\\n.quad 0\\n.endr");\nint main(void) {}',
        ("syntax_error", "memory_limit", "timeout"),
        "compile",
    ),
    case("huge program", "char a[50000000] = {1};\nint main(void) { return 0; }", "output_limit", "compile"),
    case("10 MB of source", "int main(void) { return 0; }//" + "x" * 10 * 2**20, "passed"),
    case("after all this a program runs as before", c('puts("42");'), "passed", expected="42"),
]


@pytest.mark.parametrize("record", CASES)
def test_program_comes_to_its_verdict(record):
    cases.check("c", CASES, record)


def test_no_process_and_no_file_is_left():
    assert cases.what_is_left("c", CASES) == cases.NOTHING
