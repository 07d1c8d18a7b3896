"""Programs in JavaScript: what works, and what hostile ones come to."""

import pytest

from tests.sandbox.languages import cases
from tests.sandbox.languages.cases import case

pytestmark = cases.needs("javascript")

CASES = [
    case(
        "double",
        "console.log(2 * parseInt(require('fs').readFileSync(0, 'utf8')))",
        "passed",
        stdin="21",
        expected="42",
    ),
    case(
        "dev stdin",
        "console.log(2 * parseInt(require('fs').readFileSync('/dev/stdin', 'utf8')))",
        "passed",
        stdin="21",
        expected="42",
    ),
    case(
        "input by events",
        "let s = ''; process.stdin.on('data', d => s += d).on('end', () => console.log(s.length))",
        "passed",
        stdin="x" * 200000,
        expected="200000",
    ),
    case(
        "input by lines",
        "const r = require('readline').createInterface({input: process.stdin}); let n = 0; r.on('line', l => n += +l).on('close', () => console.log(n))",
        "passed",
        stdin="1\n2\n3\n",
        expected="6",
    ),
    case("wrong", "console.log(43)", "wrong_answer", expected="42"),
    case("exit status", "process.exit(3)", "runtime_error", "exit 3"),
    case("exception", "throw new TypeError('boo')", "runtime_error", "TypeError", message="boo"),
    case("rejected promise", "Promise.reject(new RangeError('boo'))", "runtime_error", "RangeError"),
    case("syntax error", "console.log((", "syntax_error", "SyntaxError"),
    case("syntax error while running", "JSON.parse('{')", "runtime_error", "SyntaxError"),
    case("loop", "for (;;);", "timeout", "cpu"),
    case("loop in a regular expression", "/(a+)+b/.test('a'.repeat(60))", "timeout", "cpu"),
    case("sleep", "setTimeout(() => 0, 1e6)", "timeout", "wall", wall_seconds=1.0),
    case(
        "memory in the heap",
        "const a = []; for (;;) a.push(new Array(1000).fill(Math.random()))",
        "memory_limit",
        cpu_seconds=5.0,
    ),
    case(
        "memory outside the heap",
        "const a = []; for (;;) a.push(Buffer.alloc(1 << 20, 1))",
        "memory_limit",
        cpu_seconds=5.0,
    ),
    case(
        "shared memory",
        "const a = []; try { for (let i = 0; i < 4000; i++) { const b = new Uint8Array(new SharedArrayBuffer(1 << 22)); b.fill(1); a.push(b); } } catch (e) { process.exit(9); }",
        ("runtime_error", "memory_limit", "timeout"),
        cpu_seconds=5.0,
    ),
    case(
        "deep recursion",
        "function f(n) { return n ? 1 + f(n - 1) : 0 } console.log(f(100000))",
        "passed",
        expected="100000",
    ),
    case("endless recursion", "function f() { return 1 + f() } f()", "runtime_error", "RangeError"),
    case(
        "output flood",
        "const go = () => { for (let i = 0; i < 50; i++) console.log('x'.repeat(1000)); setImmediate(go) }; go()",
        "output_limit",
        "output",
        cpu_seconds=5.0,
    ),
    # It never lets its own writes go out: which bound it meets first is up to the reader's speed.
    case(
        "output flood without a breath",
        "for (;;) console.log('x'.repeat(1000))",
        ("output_limit", "memory_limit", "timeout"),
        cpu_seconds=5.0,
    ),
    case(
        "child processes",
        "const c = require('child_process'); let n = 0; for (const f of [() => c.execSync('/bin/true'), () => { const r = c.spawnSync(process.execPath, ['-v']); if (r.error) throw r.error }]) try { f(); n++ } catch (e) {} console.log(n)",
        "passed",
        expected="0",
    ),
    case(
        "worker threads",
        "const {Worker, isMainThread} = require('worker_threads'); if (isMainThread) new Worker(__filename).on('exit', () => console.log('done'))",
        "passed",
        expected="done",
    ),
    case(
        "signals",
        "let n = 0; for (const p of [1, -1, process.ppid]) try { process.kill(p, 9); n++ } catch (e) {} console.log(n)",
        "passed",
        expected="0",
    ),
    case(
        "network",
        "require('net').connect(80, '127.0.0.1').on('error', e => console.log('no'))",
        "passed",
        expected="no",
    ),
    case(
        "server",
        "require('net').createServer().on('error', e => console.log('no')).listen(8080)",
        "passed",
        expected="no",
    ),
    case(
        "files of this machine",
        "const fs = require('fs'); for (const d of ['/etc', '/home', '/root', '/proc', '/var', '/tmp/outside']) try { console.log(d, fs.readdirSync(d)) } catch (e) {}",
        "passed",
    ),
    case(
        "environment",
        "console.log(Object.keys(process.env).filter(k => !['PATH', 'LC_ALL', 'HOME'].includes(k)).length)",
        "passed",
        expected="0",
    ),
    case(
        "native code",
        "const fs = require('fs'); fs.writeFileSync('a.node', 'x'); try { process.dlopen(module, '/tmp/a.node'); console.log('yes') } catch (e) { console.log('no') }",
        "passed",
        expected="no",
    ),
    case(
        "odd bytes",
        "process.stdout.write(Buffer.from([97, 0, 255, 254, 27]))",
        "passed",
        expected="a\0\xff\xfe\x1b",
    ),
    case("empty", "", "passed"),
]


@pytest.mark.parametrize("record", CASES)
def test_program_comes_to_its_verdict(record):
    cases.check("javascript", CASES, record)


def test_no_process_and_no_file_is_left():
    assert cases.what_is_left("javascript", CASES) == cases.NOTHING
