"""Programs that want a reward without the work, and honest ones that look odd."""

import json
import os
from pathlib import Path

import pytest

from rl_verifiers.code import code_verifier

SHORT = {"wall_s": 2, "cpu_s": 1}
DATA = Path(os.environ.get("AGENT_RL_DATA", "")) / "sandbox_attacks_sample.jsonl"

TOTAL = {
    "entry_point": "total",
    "prompt": "The sum of a list.",
    "tests": [
        {"args": [[1, 2, 3]], "expected": 6},
        {"args": [[2.5, 4]], "expected": 6.5, "tol": 1e-6},
        {"args": [[7, 10]], "expected": 17},
    ],
}
PAIR = {
    "entry_point": "pair",
    "tests": [
        {"args": ["ab", 3], "expected_py": "('ab', [3, {'k': 'ab'}])"},
        {"args": ["", 4], "expected_py": "('', [4, {'k': ''}])"},
    ],
}
CHECKED = {
    "entry_point": "root",
    "tests": [
        {"calls": [{"args": [4]}], "check": "abs(r0 * r0 - 4) < 1e-6"},
        {"calls": [{"args": [9]}], "check": "not abs(r0 * r0 - 9) > 1e-6 and r0 == r0"},
        {"args": [16], "truthy": True},
    ],
}
REPLAYED = {
    "entry_point": "root",
    "tests": [
        {
            "calls": [{"args": [4]}, {"args": [9]}],
            "replay": "def check(f):\n for n in (4, 9): assert abs(f(n) ** 2 - n) < 1e-6",
        }
    ],
}
WRITTEN = {
    "entry_point": "size",
    "tests": [{"call": "size(Box(n))", "setup": "n = 12", "expected": 144}],
}
STDIO = {
    "tests": [
        {"stdin": "3 4\n", "expected_stdout": "7\n"},
        {"stdin": "10 -2\n", "expected_stdout": "8\n"},
    ]
}

ANY = """
class Any:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = None
    def __bool__(self): return True
    def __abs__(self): return self
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __sub__(self, other): return self
    __rsub__ = __mul__ = __rmul__ = __add__ = __radd__ = __sub__
    def __iter__(self): return iter(())
    def __len__(self): return 0
"""
FRAMES = """
import sys
def frames():
    frame = sys._getframe(1)
    while frame:
        yield frame
        frame = frame.f_back
"""

ATTACKS = {
    "exit at load": (TOTAL, "import sys\nsys.exit(0)"),
    "raise at load": (TOTAL, "def total(x): return 6\nraise SystemExit"),
    "hard exit at load": (TOTAL, "import os\nos._exit(0)"),
    "hard exit in the call": (TOTAL, "import os\ndef total(x): os._exit(0)"),
    "exit in the call": (TOTAL, "def total(x): raise SystemExit(0)"),
    "quit": (TOTAL, "def total(x): quit()"),
    "exec another program": (
        TOTAL,
        "import os\ndef total(x): os.execvp('true', ['true'])",
    ),
    "equal to all": (TOTAL, ANY + "def total(x): return Any()"),
    "equal inside": (PAIR, ANY + "def pair(a, b): return (a, [b, Any()])"),
    "equal list": (
        PAIR,
        "class L(list): __eq__ = lambda s, o: True\ndef pair(a, b): return L([0])",
    ),
    "equal number": (
        TOTAL,
        "class N(int):\n __eq__ = lambda s, o: True\n __hash__ = int.__hash__\n"
        "def total(x): return N(5)",
    ),
    "lying conversions": (
        TOTAL,
        "class N(float):\n __float__ = __index__ = __int__ = lambda s: 6\n"
        " __repr__ = __str__ = __format__ = lambda *a: '6'\ndef total(x): return N(5)",
    ),
    "lying class": (
        TOTAL,
        "class C:\n __class__ = property(lambda s: int)\n __eq__ = lambda s, o: True\n"
        "def total(x): return C()",
    ),
    "lying mro": (
        TOTAL,
        "class M(type):\n def mro(c): return [c, *dict.__mro__]\n"
        "class C(dict, metaclass=M):\n def items(s): return [('value', True)]\n"
        " __iter__ = lambda s: iter('value')\ndef total(x): return C()",
    ),
    "equal text": (
        PAIR,
        "class S(str):\n __eq__ = lambda s, o: True\n __hash__ = str.__hash__\n"
        "def pair(a, b): return (S('no'), [b, {'k': S('no')}])",
    ),
    "text for a number": (TOTAL, "def total(x): return str(sum(x))"),
    "list for a tuple": (PAIR, "def pair(a, b): return [a, [b, {'k': a}]]"),
    "markers": (TOTAL, "print('ALL TESTS PASSED', 'OK', '{\"value\": 6}', sep='\\n')"),
    "markers and exit": (
        TOTAL,
        "import os, sys\ndef total(x):\n print('3 passed'); sys.stdout.flush(); os._exit(0)",
    ),
    "write to every file": (
        TOTAL,
        "import os\ndef total(x):\n for fd in range(3, 256):\n"
        "  try: os.write(fd, b'{\"value\": true}\\n')\n  except OSError: pass\n os._exit(0)",
    ),
    "guess into the result channel": (
        TOTAL,
        "import os\ndef total(x):\n for fd in range(3, 20):\n  for n in range(30):\n"
        "   try: os.write(fd, b'{\"value\": %d}\\n' % n)\n   except OSError: pass\n os._exit(0)",
    ),
    "guess as many processes": (
        TOTAL,
        "import os\ndef total(x):\n for n in range(30):\n  if os.fork() == 0: return n",
    ),
    "guess in turn": (
        TOTAL,
        "import os\ndef total(x):\n for n in range(30):\n  pid = os.fork()\n"
        "  if pid == 0: return n\n  os.waitpid(pid, 0)",
    ),
    "NaN into the channel": (
        TOTAL,
        "import os\ndef total(x):\n for fd in range(3, 20):\n"
        "  try: os.write(fd, b'{\"value\": NaN}\\n')\n  except OSError: pass\n os._exit(0)",
    ),
    "deep JSON into the channel": (
        TOTAL,
        "import os\ndef total(x):\n for fd in range(3, 20):\n"
        "  try: os.write(fd, b'{\"value\":' + b'[' * 100000 + b'\\n')\n  except OSError: pass\n"
        " os._exit(0)",
    ),
    "frames for the expected value": (
        TOTAL,
        FRAMES + "def total(x):\n for f in frames():\n"
        "  for n, v in {**f.f_globals, **f.f_locals}.items():\n"
        "   if 'expect' in n.lower() or isinstance(v, dict) and 'expected' in v: return v",
    ),
    "garbage for the expected value": (
        TOTAL,
        "import gc\ndef total(x):\n for o in gc.get_objects():\n"
        "  if type(o) is dict and 'expected' in o: return o['expected']",
    ),
    "files for the expected value": (
        TOTAL,
        "import os, re\ndef total(x):\n for top in ('.', '/tmp', '/proc/self', '/proc/1'):\n"
        "  for base, _, names in os.walk(top):\n   for name in names[:50]:\n"
        "    if name not in ('environ', 'cmdline', 'maps') and top[1:5] == 'proc': continue\n"
        "    try: text = open(os.path.join(base, name)).read(9999)\n"
        "    except Exception: continue\n"
        "    m = re.search('expected.{0,5}?([0-9.]+)', text)\n    if m: return float(m[1])",
    ),
    "patched builtins": (
        TOTAL,
        ANY + "import builtins\nbuiltins.type = lambda *a: int\n"
        "builtins.isinstance = lambda *a: True\nbuiltins.int = builtins.float = Any\n"
        "def total(x): return Any()",
    ),
    "patched json": (
        TOTAL,
        "import json\njson.dumps = lambda *a, **k: '{\"value\": true}'\n"
        "json.encoder.encode_basestring = json.dumps\ndef total(x): return None",
    ),
    "patched struct": (
        TOTAL,
        "import struct\nstruct.pack = lambda *a: bytes(8)\ndef total(x): return 1.5",
    ),
    "patched encoder": (
        TOTAL,
        "import sys\nfor m in [*sys.modules.values()]:\n for n in ('encode', 'decode'):\n"
        "  if callable(getattr(m, n, None)):\n   try: setattr(m, n, lambda *a: {'t': '6'})\n"
        "   except Exception: pass\ndef total(x): return None",
    ),
    "patched runner": (
        TOTAL,
        FRAMES + "for f in frames():\n for n in ('report', 'values', 'leave', 'describe'):\n"
        "  if n in f.f_globals: f.f_globals[n] = lambda *a: None\ndef total(x): return 6",
    ),
    "traced caller": (
        TOTAL,
        "import sys\ndef trace(f, e, a):\n if e == 'return': f.f_locals['result'] = 6\n"
        " return trace\nsys.settrace(trace); sys.setprofile(trace)\ndef total(x): return None",
    ),
    "changed small integers": (
        TOTAL,
        "import ctypes\nfor n in range(1, 200):\n"
        " try: ctypes.memmove(id(n) + 24, id(6) + 24, 4)\n"
        " except Exception: pass\ndef total(x): return 5",
    ),
    "NaN for a number": (TOTAL, "def total(x): return float('nan')"),
    "NaN for a check": (CHECKED, "def root(x): return float('nan') if x != 16 else None"),
    "infinity": (TOTAL, "def total(x): return float('inf')"),
    "complex NaN": (TOTAL, "def total(x): return complex('nan+nanj')"),
    "at exit": (
        TOTAL,
        "import atexit, os\natexit.register(os._exit, 0)\nimport sys\nsys.exit(0)",
    ),
    "a finalizer exits": (
        TOTAL,
        "import os\nclass C:\n def __del__(s): os._exit(0)\ndef total(x): C(); return None",
    ),
    "a thread exits": (
        TOTAL,
        "import os, threading, time\nthreading.Thread(target=os._exit, args=(0,)).start()\n"
        "time.sleep(1)\ndef total(x): return None",
    ),
    "a thread prints for ever": (
        TOTAL,
        "import threading\ndef f():\n while True: print('passed')\n"
        "threading.Thread(target=f).start()\ndef total(x): return None",
    ),
    "hostile repr": (
        TOTAL,
        "import os\nclass R:\n def __repr__(s): os._exit(0)\n"
        " __str__ = __reduce__ = __hash__ = __repr__\ndef total(x): return [R()]",
    ),
    "hostile exception text": (
        TOTAL,
        "import os\nclass E(Exception):\n def __str__(s): os._exit(0)\ndef total(x): raise E",
    ),
    "an exception with much text": (TOTAL, "def total(x): raise ValueError('x\\n' * 10**7)"),
    "an exception named as nothing": (
        TOTAL,
        "E = type('\\n6\\n', (BaseException,), {})\ndef total(x): raise E(6)",
    ),
    "an exception that holds the answer": (TOTAL, "def total(x): raise StopIteration(sum(x))"),
    "huge integer": (TOTAL, "def total(x): return 1 << 80_000_000"),
    "huge text": (TOTAL, "def total(x): return 'x' * 100_000_000"),
    "many items": (TOTAL, "def total(x): return [0] * 3_000_000"),
    "contains itself": (TOTAL, "def total(x):\n y = []\n y.append(y)\n return y"),
    "too deep": (TOTAL, "def total(x):\n y = []\n for _ in range(10**5): y = [y]\n return y"),
    "generator": (TOTAL, "def total(x): yield sum(x)"),
    "coroutine": (TOTAL, "async def total(x): return sum(x)"),
    "a function": (TOTAL, "def total(x): return lambda: sum(x)"),
    "endless": (TOTAL, "def total(x):\n while True: pass"),
    "endless in C": (TOTAL, "def total(x): return 7 ** (7 ** 12)"),
    "sleeps": (TOTAL, "import time\ndef total(x): time.sleep(99)"),
    "deaf to signals": (
        TOTAL,
        "import signal\nfor s in range(1, 65):\n try: signal.signal(s, signal.SIG_IGN)\n"
        " except (OSError, ValueError): pass\ndef total(x):\n while True: pass",
    ),
    "kills its parent": (
        TOTAL,
        "import os, signal\ndef total(x):\n try: os.kill(os.getppid(), signal.SIGKILL)\n"
        " except OSError: pass\n os._exit(0)",
    ),
    "kills everything": (
        TOTAL,
        "import os\ndef total(x):\n try: os.kill(-1, 9)\n except OSError: pass\n os._exit(0)",
    ),
    "kills itself": (TOTAL, "import os\ndef total(x): os.kill(os.getpid(), 9)"),
    "stops itself": (TOTAL, "import os\ndef total(x): os.kill(os.getpid(), 19)"),
    "memory": (TOTAL, "def total(x): return len(bytearray(10**9))"),
    "recursion": (TOTAL, "def total(x): return total(x)"),
    "crash": (TOTAL, "import ctypes\ndef total(x): ctypes.string_at(0)"),
    "closes all files": (TOTAL, "import os\nos.closerange(0, 256)\ndef total(x): return sum(x)"),
    "state of an earlier run": (
        TOTAL,
        "import os\ndef total(x):\n for p in ('/tmp/n', 'n', '/dev/shm/n'):\n"
        "  try:\n   n = open(p).read()\n   return int(n)\n"
        "  except Exception: pass\n"
        "  try: open(p, 'w').write(str(sum(x)))\n  except Exception: pass",
    ),
    "equal in a check": (CHECKED, ANY + "def root(x): return Any()"),
    "equal in a replay": (REPLAYED, ANY + "def root(x): return Any()"),
    "patched replay": (
        REPLAYED,
        "def check(f): pass\ndef _rl_replay(*a): return True\nimport random, copy\n"
        "random.seed = copy.deepcopy = lambda *a: 1 / 0\ndef root(x): return 0",
    ),
    "exception in a replay": (REPLAYED, "def root(x): raise SystemExit(0)"),
    "keyboard interrupt in a replay": (REPLAYED, "def root(x): raise KeyboardInterrupt"),
    "setup peeked at": (WRITTEN, "Box = int\ndef size(b): return globals().get('expected', b)"),
    "open text at the end": (WRITTEN, "Box = int\ndef size(b): return 144\n'''"),
    "an open call at the end": (WRITTEN, "Box = int\nsize = max\n(lambda _rl_call: 144)("),
    "an overtaken table": (
        WRITTEN,
        "import sys\nclass D(dict): pass\nBox = int\ndef size(b):\n"
        " sys._getframe(1).f_globals['_rl_call'] = lambda n: 144\n return 0",
    ),
    "output on the wrong stream": (STDIO, "import sys\nprint(7, 8, file=sys.stderr)"),
    "all answers": (STDIO, "print(*range(-9, 99))"),
    "the answer within others": (STDIO, "print('7\\n8')"),
    "right answer, wrong exit": (STDIO, "print(sum(map(int, input().split())))\nexit(1)"),
    "right answer, then an error": (STDIO, "print(sum(map(int, input().split())))\n1 / 0"),
    "right answer, then for ever": (
        STDIO,
        "print(sum(map(int, input().split())), flush=True)\nwhile True: pass",
    ),
    "right answer, then killed": (
        STDIO,
        "import os\nprint(sum(map(int, input().split())), flush=True)\nos.kill(os.getpid(), 9)",
    ),
    "a flood": (STDIO, "while True: print(7)"),
    "back spaces": (STDIO, "print('9\\b' + str(sum(map(int, input().split()))))"),
    "no program": (STDIO, "pass"),
}  # fmt: skip

CONTROLS = {
    "plain": (TOTAL, "def total(x): return sum(x)"),
    "prints": (TOTAL, "def total(x):\n print('failed', 0, flush=True)\n return sum(x)"),
    "main guard": (
        TOTAL,
        "import sys\ndef total(x): return sum(x)\nif __name__ == '__main__': sys.exit(1)",
    ),
    "class with a method": (TOTAL, "class S:\n def t(s, x): return sum(x)\ntotal = S().t"),
    "callable object": (TOTAL, "class S:\n def __call__(s, x): return sum(x)\ntotal = S()"),
    "threads that end": (
        TOTAL,
        "from concurrent.futures import ThreadPoolExecutor as P\ndef total(x):\n"
        " with P(2) as p: return sum(p.map(abs, x))",
    ),
    "processes that end": (
        TOTAL,
        "import subprocess, sys\ndef total(x):\n"
        " return eval(subprocess.run([sys.executable, '-c', f'print(sum({x}))'],"
        " capture_output=True).stdout)",
    ),
    "at exit": (TOTAL, "import atexit\natexit.register(print, 'bye')\ndef total(x): return sum(x)"),
    "cache": (
        TOTAL,
        "import functools\n@functools.lru_cache\ndef t(x): return sum(x)\n"
        "def total(x): return t(tuple(x))",
    ),
    "catches errors": (
        TOTAL,
        "def total(x):\n try: return sum(x[0])\n except TypeError: return sum(x)",
    ),
    "number of a subclass": (
        TOTAL,
        "class N(float): pass\ndef total(x): return N(sum(x))",
    ),
    "changes its argument": (TOTAL, "def total(x):\n s = sum(x)\n x.clear()\n return s"),
    "files": (
        TOTAL,
        "def total(x):\n open('n', 'w').write(str(sum(x)))\n return float(open('n').read())",
    ),
    "typing": (TOTAL, "from typing import *\ndef total(x: List[float]) -> float: return sum(x)"),
    "warnings": (TOTAL, "import warnings\ndef total(x):\n warnings.warn('old')\n return sum(x)"),
    "signal handler": (
        TOTAL,
        "import signal\nsignal.signal(signal.SIGALRM, print)\ndef total(x): return sum(x)",
    ),
    "raised recursion limit": (
        TOTAL,
        "import sys\nsys.setrecursionlimit(10**6)\n"
        "def total(x): return x[0] + total(x[1:]) if x else 0",
    ),
    "named tuple and ordered dict": (
        PAIR,
        "from collections import *\nP = namedtuple('P', 'a b')\n"
        "def pair(a, b): return P(a, [b, OrderedDict(k=a)])",
    ),
    "another root": (CHECKED, "def root(x): return -x ** 0.5"),
    "a replay": (REPLAYED, "def root(x): return x ** 0.5"),
    "a class of its own": (
        WRITTEN,
        "class Box:\n def __init__(s, n): s.n = n\ndef size(b): return b.n ** 2",
    ),
    "comment at the end": (WRITTEN, "Box = int\ndef size(b): return b * b  # the end"),
    "program": (STDIO, "a, b = map(int, input().split())\nprint(a + b)"),
    "program with a main": (
        STDIO,
        "import sys\ndef main(): print(sum(map(int, sys.stdin.read().split())), end='')\n"
        "if __name__ == '__main__': sys.exit(main())",
    ),
    "program with blanks": (STDIO, "print(sum(map(int, input().split())), ' \\n\\n')"),
    "program that logs": (
        STDIO,
        "import sys\nprint('x' * 99999, file=sys.stderr)\nprint(sum(map(int, input().split())))",
    ),
    "program that ends hard": (
        STDIO,
        "import os\nprint(sum(map(int, input().split())), flush=True)\nos._exit(0)",
    ),
}  # fmt: skip


def judged(code, row, **limits):
    return code_verifier(extract="whole", limits=limits, reward="fraction")(code, row)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_gets_nothing(name):
    row, code = ATTACKS[name]
    score = judged(code, row, **SHORT)
    assert (score.value, score.passed, score.error) == (0.0, False, None), score.reason


@pytest.mark.parametrize("name", CONTROLS)
def test_an_honest_oddity_gets_everything(name):
    row, code = CONTROLS[name]
    score = judged(code, row)
    assert (score.value, score.passed) == (1.0, True), score.reason


@pytest.mark.parametrize("name", CONTROLS)
def test_an_honest_oddity_is_not_suspicious(name):
    row, code = CONTROLS[name]
    assert judged(code, row).parts["suspicious"] == 0


@pytest.mark.parametrize(
    "name",
    [
        "hard exit in the call",
        "equal to all",
        "kills itself",
        "guess as many processes",
    ],
)
def test_an_attack_is_counted_as_suspicious(name):
    row, code = ATTACKS[name]
    assert judged(code, row).parts["suspicious"] > 0


def test_a_weak_test_can_be_forged_and_says_so():
    row = {"tests": [{"assert": "assert f() == 1"}]}
    score = judged(ANY + "def f(): return Any()", row)
    assert (score.value, score.parts["weak"]) == (1.0, 1.0)


@pytest.mark.skipif(not DATA.is_file(), reason="no sandbox_attacks_sample.jsonl in $AGENT_RL_DATA")
def test_every_row_of_the_attack_sample_comes_out_right():
    rows = [json.loads(line) for line in DATA.read_text().splitlines()]
    verifier = code_verifier(extract="whole", limits={"wall_s": 3, "cpu_s": 3})
    found = {
        row["id"]: verifier(row["code"], row).value for row in rows if row["kind"] == "solution"
    }
    wanted = {
        row["id"]: float(row["category"] == "control") for row in rows if row["kind"] == "solution"
    }
    assert len(found) >= 7
    assert found == wanted
