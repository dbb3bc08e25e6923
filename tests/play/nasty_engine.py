"""A Go engine as a script of its own, which behaves until a certain move, and then as it is told.

``nasty_engine.py MODE K``: it plays the first empty point of the board from the top left, without
knowing any rules, and passes once it has five stones there; at the K-th move of a process MODE
happens.
"""

import os
import random
import subprocess
import sys
import time


def main() -> None:
    mode, when = sys.argv[1], int(sys.argv[2])
    if mode == "dies-on-start":
        print("no licence was found", file=sys.stderr)
        sys.exit(3)
    if mode == "slow-start":
        time.sleep(1.0)
    if mode == "hangs-on-start":
        time.sleep(600)
    size, stones, asked = 9, {}, 0
    for line in sys.stdin:
        words = line.split()
        answer = ""
        if words[0] == "protocol_version":
            answer = "2"
        elif words[0] in ("name", "version"):
            answer = "nasty" if words[0] == "name" else "1"
            if mode == "odd-name":
                answer = f"\x1b[31m{answer}\nsecond\u202e line\0"
            elif mode == "long-name":
                answer *= 500
            elif mode == "no-name":
                answer = ""
        elif words[0] == "known_command":
            answer = "false"
        elif words[0] == "boardsize":
            size = int(words[1])
            if mode == "small-boards" and size > 3:
                print("? unacceptable size\n", flush=True)
                continue
        elif words[0] == "clear_board":
            stones = {}
        elif words[0] == "play":
            if mode == "refuses" and asked + 1 >= when:
                print("? illegal move\n", flush=True)
                continue
            if words[2] != "pass":
                stones[words[2].upper()] = words[1]
        elif words[0] == "genmove":
            asked += 1
            if asked >= when:
                answer = misbehave(mode, stones)
            if not answer:
                own = sum(colour == words[1] for colour in stones.values())
                answer = first_empty(size, stones) if own < 5 else "pass"
            if answer != "pass":
                stones[answer.upper()] = words[1]
        elif words[0] == "quit":
            print("=\n", flush=True)
            return
        sys.stdout.write(f"= {answer}\n\n")
        sys.stdout.flush()


def first_empty(size: int, stones: dict) -> str:
    for row in range(size, 0, -1):
        for column in "ABCDEFGHJKLMNOPQRST"[:size]:
            if f"{column}{row}" not in stones:
                return f"{column}{row}"
    return "pass"


def misbehave(mode: str, stones: dict) -> str:
    if mode == "crashes":
        print("segfault in my head", file=sys.stderr, flush=True)
        os.abort()
    elif mode == "exits":
        sys.exit(4)
    elif mode == "dawdles":
        time.sleep(random.choice((0.0, 0.0, 0.002, 0.02)))
    elif mode == "hangs-beside-C1" and "C1" in stones:
        time.sleep(600)
    elif mode == "hangs":
        # With a child of its own, which must not outlive it.
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        time.sleep(600)
    elif mode == "says-nonsense":
        sys.stdout.write("I resign, of course\n\n")
        sys.stdout.flush()
        time.sleep(600)
    elif mode == "no-vertex":
        return "Z99"
    elif mode == "says-error":
        sys.stdout.write("? out of ideas\n\n")
        sys.stdout.flush()
        time.sleep(600)
    elif mode == "plays-on-a-stone":
        return next(iter(stones), "A1")
    elif mode == "floods":
        while True:
            sys.stdout.write("= " + "A" * 100_000)
            sys.stdout.flush()
    elif mode == "chatters":
        # Of what is written beside the protocol nothing is lost but time.
        for _ in range(200):
            sys.stderr.write("thinking " * 500 + "\n")
        return ""
    elif mode == "answers-twice":
        sys.stdout.write("= A1\n\n")
        return "A1"
    elif mode == "resigns":
        return "RESIGN"
    elif mode == "passes":
        return "pass"
    return ""


main()
