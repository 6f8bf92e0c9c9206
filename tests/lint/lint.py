"""Checks the sources against the rules that a compiler does not know.

usage: lint.py [ROOT]      prints "FILE:LINE: CHECK: REASON" for each finding; exits 1 when there is one

Checks: include (who may include whom), call (what the database core must not call), word (markers of
unfinished work), listed (a source that no meson.build names is neither built nor run) and format
(clang-format, of the version that Debian 12 has: others differ in details).
"""
import os
import re
import subprocess
import sys

# Who may include whom: a folder, or a single header, and what of the others it may include. The longest
# match decides what a file belongs to. A folder may always include itself. "*": everything.
MAY_INCLUDE = {
    "base": [],
    "rdma": ["base"],
    "db/wire": ["base"],
    "db/node/env.h": ["base"],
    "db/node/env_": ["base", "db/node/env.h", "db/node/sim.h"],
    "db/node/sim.h": ["base", "db/node/env.h"],
    "db/ldm": ["base", "db/wire", "db/node/env.h"],
    "db/txn": ["base", "db/wire", "db/ldm", "db/node/env.h"],
    "db/query": ["base", "db/wire", "db/ldm", "db/node/env.h", "db/node/worker.h", "db/node/mailbox.h"],
    "db/node/worker.h": ["base", "db/wire", "db/ldm", "db/node/env.h", "db/node/mailbox.h", "db/node/hlc.h"],
    "db/node/mailbox.h": ["base", "db/wire"],
    "db/node/hlc.h": ["base"],
    "db/cluster": ["base", "rdma", "db/wire", "db/ldm", "db/txn", "db/node/env.h"],
    "db/node": ["base", "rdma", "db/wire", "db/ldm", "db/txn", "db/query", "db/cluster",
                "db/node/env.h", "db/node/sim.h", "db/node/worker.h", "db/node/mailbox.h", "db/node/hlc.h"],
    "db/api": ["base", "rdma", "db/wire", "db/query", "db/node", "db/node/env.h", "db/node/worker.h",
               "db/node/mailbox.h", "db/node/hlc.h"],
    "sql": ["base", "db/wire", "db/api"],
    "metadata": ["base", "db/wire", "db/api", "sql"],
    "fuse": ["base", "metadata"],
    "web": ["base", "db/wire", "db/api", "sql", "metadata"],
    "cli": ["*"],
    "bench": ["*"],
    "tests": ["*"],
}

# A header below the top of a folder is private to it, but for these.
SEES_PRIVATE = {"tests", "bench"}

# Time, randomness, files and sockets reach the database core through struct env only.
FORBIDDEN_CALLS = """
    time gettimeofday clock_gettime clock clock_nanosleep nanosleep usleep sleep
    rand random rand_r srand srandom drand48 getrandom getentropy arc4random
    open openat open64 creat fopen fdopen freopen opendir fdopendir mkstemp mkdtemp tmpfile
    pread pwrite preadv pwritev readv writev fread fwrite lseek fsync fdatasync syncfs
    rename renameat unlink unlinkat mkdir mkdirat rmdir ftruncate truncate stat fstat lstat
    socket socketpair connect accept4 recv recvfrom recvmsg sendto sendmsg getaddrinfo
""".split()
# The real environment is where they belong; and the outer edge, where a store's directory is found and locked before there
# is an environment, and where a client's own thread waits.
CALLS_ALLOWED_IN = {"db/node/env_posix.c", "db/api/db.c", "db/api/client.c", "db/api/remote.c"}

FORBIDDEN_WORDS = ["TO" + "DO", "FIX" + "ME"]
WORD_CHECKED = (".c", ".h", ".py", ".sh", ".y", ".re", ".sql", ".awk", ".md", "meson.build", "/run", "dev")

CLANG_FORMAT_VERSION = 14

INCLUDE = re.compile(r'\s*#\s*include\s*"([^"]+)"')
CALL = re.compile(r"(?<![\w.>])(" + "|".join(FORBIDDEN_CALLS) + r")\s*\(")
WORD = re.compile(r"\b(" + "|".join(FORBIDDEN_WORDS) + r")\b")
# Comments and literals, to blank out before looking for calls.
NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def sources(root):
    """Every file of the tree, relative to root; without builds, hidden folders and the fixture."""
    for folder, folders, files in os.walk(root):
        relative = os.path.relpath(folder, root)
        folders[:] = sorted(name for name in folders
                            if not name.startswith((".", "build")) and name != "__pycache__"
                            and os.path.normpath(os.path.join(relative, name)) != "tests/lint/fixture")
        for name in sorted(files):
            yield os.path.normpath(os.path.join(relative, name))


def owner(path):
    """The entry of MAY_INCLUDE that the path belongs to, or None."""
    best = None
    for entry in MAY_INCLUDE:
        exact = entry.endswith((".h", "_"))
        if path == entry or path.startswith(entry if exact else entry + "/"):
            if best is None or len(entry) > len(best):
                best = entry
    return best


def check_includes(path, text):
    ours = owner(path)
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        target = match.group(1)
        theirs = owner(target)
        if theirs is None:
            yield number, "include", f'"{target}" is not written from the repository root'
            continue
        if ours is None:
            yield number, "include", "a source in a folder that the table of lint.py does not know"
            continue
        may = MAY_INCLUDE[ours]
        if theirs != ours and theirs not in may and may != ["*"]:
            yield number, "include", f"{ours} may not include {theirs} ({target})"
        elif (theirs != ours and ours not in SEES_PRIVATE and not theirs.endswith((".h", "_"))
              and "/" in target[len(theirs) + 1:]):
            yield number, "include", f"{target} is private to {theirs}: only the top of a folder is public"


def check_calls(path, text):
    if not path.startswith("db/") or path in CALLS_ALLOWED_IN:
        return
    code = NOT_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
    for number, line in enumerate(code.splitlines(), 1):
        for match in CALL.finditer(line):
            yield number, "call", f"{match.group(1)}() in the database core: use struct env"


def check_words(text):
    for number, line in enumerate(text.splitlines(), 1):
        match = WORD.search(line)
        if match:
            yield number, "word", f"{match.group(1)}: finish it or file it"


def check_listed(root, path):
    """A .c file is named in the meson.build of its folder or of one above it."""
    folder = os.path.dirname(path)
    while folder:
        build = os.path.join(root, folder, "meson.build")
        if os.path.exists(build):
            with open(build, encoding="utf-8") as file:
                if f"'{os.path.relpath(path, folder)}'" in file.read():
                    return
        folder = os.path.dirname(folder)
    yield 1, "listed", "no meson.build names it"


def check_format(root, paths):
    try:
        version = subprocess.run(["clang-format", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        yield "clang-format", 0, "format", "clang-format is not installed"
        return
    if f"version {CLANG_FORMAT_VERSION}." not in version.stdout:
        print(f"lint: skipping the format check: it needs clang-format {CLANG_FORMAT_VERSION}", file=sys.stderr)
        return
    run = subprocess.run(["clang-format", "--dry-run", "-style=file", *paths], cwd=root, capture_output=True,
                         text=True, check=False)
    seen = set()
    for line in run.stderr.splitlines():
        match = re.match(r"(.+?):(\d+):\d+: (warning|error): ", line)
        if match and match.group(1) not in seen:
            seen.add(match.group(1))
            yield match.group(1), int(match.group(2)), "format", "not as clang-format writes it (./dev format)"


def findings(root):
    c_sources = []
    for path in sources(root):
        if not path.endswith(WORD_CHECKED):
            continue
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            text = file.read()
        found = list(check_words(text))
        if path.endswith((".c", ".h")):
            c_sources.append(path)
            found += check_calls(path, text)
        if path.endswith((".c", ".h", ".y", ".re")):
            found += check_includes(path, text)
        if path.endswith(".c"):
            found += check_listed(root, path)
        for number, check, reason in found:
            yield path, number, check, reason
    yield from check_format(root, c_sources)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else "."
    found = list(findings(root))
    for path, number, check, reason in found:
        print(f"{path}:{number}: {check}: {reason}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
