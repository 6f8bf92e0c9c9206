"""Boots Debian's stock kernel under qemu with Soft-RoCE, and runs programs of the build inside it.

A guest is an initramfs made here: busybox, the programs that its tests name, the tools of TOOLS, the shared
libraries that all of them need, kernel modules, and the directory tests/vm/guest. It needs no disk, no root
and no KVM: qemu's own emulation runs the guest's two processors on two threads. The kernel comes from the
package that linux-image-amd64 depends on, downloaded with apt-get and unpacked, not installed.

What passes between host and guest:

    ttyS0        the guest's kernel messages, kept in console.log, shown when the guest dies
    ttyS1        lines of the rig: "@rig VERB ARGUMENTS" from the guest; "ask" waits for one line back
    9p "share"   a directory: SHARE/NAME.log is the output of test NAME, as it is written; other files as
                 tests like

Verbs: ready (init is done), begin NAME, end NAME STATUS MS, done (all is run), and ask QUESTION, where
QUESTION is `link on` or `link off` (the guest's network card, by qemu's monitor) or `meet NAME` (answered
when every guest of the group has asked it).
"""
import contextlib
import ctypes
import fcntl
import functools
import glob
import hashlib
import io
import json
import lzma
import os
import re
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.environ.get("TRELLIS_VM_CACHE", os.path.join(ROOT, "build-vm"))

# In this order; what they depend on is found and loaded before them. crc32_generic is what rdma_rxe asks
# the crypto interface for, by name only.
MODULES = ["crc32_generic", "virtio_pci", "virtio_net", "9pnet_virtio", "9p", "configfs", "dummy", "ib_uverbs",
           "rdma_ucm", "rdma_rxe", "sch_netem", "fuse"]
TOOLS = ["ip", "rdma", "tc", "ib_send_lat", "ib_send_bw", "ib_write_lat"]
# The provider that libibverbs loads by name, and what the C library loads by name when a thread is cancelled.
PROVIDER = "librxe-rdmav34.so"
ALSO = ["libgcc_s.so.1"]

# Everything that the emulation has, but for what makes each memory access dearer: a fifth level of page tables, and
# a second set of translations for the kernel's accesses to user memory.
CPU = "max,la57=off,smap=off"

# Of what is kept in the cache.
CACHE_FORMAT = 2

BOOT_S_MAX = 180
ANSWER_S_MAX = 120
# What a test may take beyond its own limit before the guest counts as hung: the guest ends tests itself.
GRACE_S = 45
PR_SET_PDEATHSIG = 1


class RigError(Exception):
    """The rig itself does not work here; the text says what to do."""


def run_quiet(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **options)
    if done.returncode:
        raise RigError(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()[-400:]}")
    return done.stdout.decode(errors="replace")


def find_tool(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise RigError(f"{name} is not installed; ./dev test installs what the guest needs")
    return path


# --- the kernel ---

def kernel_package():
    """Name and version of the package with Debian's current kernel."""
    text = run_quiet("apt-cache", "depends", "linux-image-amd64")
    match = re.search(r"Depends: (linux-image-\S+)", text)
    if not match:
        raise RigError("apt knows no package linux-image-amd64; run apt-get update")
    name = match.group(1)
    match = re.search(r"^Version: (\S+)", run_quiet("apt-cache", "show", "--no-all-versions", name), re.M)
    if not match:
        raise RigError(f"apt knows no version of {name}; run apt-get update")
    return name, match.group(1)


def kernel_download(name, version, place):
    """The path of the downloaded package."""
    last = None
    for attempt in range(2):
        try:
            run_quiet("apt-get", "-q", "download", f"{name}={version}", cwd=place)
            return glob.glob(os.path.join(place, "*.deb"))[0]
        except (RigError, IndexError) as error:
            last = error
        # The lists may be older than what the mirror has; bringing them up to date takes root.
        as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
        if attempt == 0:
            subprocess.run([*as_root, "apt-get", "-q", "update"], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False)
            name, version = kernel_package()
    raise RigError(f"cannot download the kernel: {last}")


def module_needs(path):
    with open(path, "rb") as module:
        match = re.search(rb"\0depends=([^\0]*)\0", module.read())
    return [name for name in match.group(1).decode().split(",") if name] if match else []


def kernel_image(image):
    """The kernel that an image unpacks when it boots, which takes an emulated processor seconds; qemu starts it as well.
    An image packed otherwise than by xz, or older than the header's fields, is left as it is. The format is in
    Documentation/arch/x86/boot.rst of the kernel."""
    header, version = struct.unpack_from("<4sH", image, 0x202)
    setup_sectors = image[0x1F1] or 4
    offset, size = struct.unpack_from("<II", image, 0x248)
    payload = image[(setup_sectors + 1) * 512 + offset:][:size]
    if header != b"HdrS" or version < 0x208 or not payload.startswith(b"\xfd7zXZ\0"):
        return image
    return lzma.LZMADecompressor().decompress(payload)


def kernel_unpack(package, place):
    """Leaves kernel, modules/ and the file `order` in place."""
    whole = os.path.join(place, "whole")
    run_quiet("dpkg-deb", "-x", package, whole)
    with open(glob.glob(os.path.join(whole, "boot/vmlinuz-*"))[0], "rb") as image, \
            open(os.path.join(place, "kernel"), "wb") as out:
        out.write(kernel_image(image.read()))
    found, builtin = {}, set()
    for folder, _, files in os.walk(os.path.join(whole, "lib/modules")):
        for name in files:
            if name.endswith(".ko"):
                found[name[:-3].replace("-", "_")] = os.path.join(folder, name)
            elif name == "modules.builtin":
                with open(os.path.join(folder, name), encoding="ascii") as lines:
                    builtin.update(os.path.basename(line.strip())[:-3].replace("-", "_") for line in lines)
    order = []

    def take(name):
        if name in order or name in builtin:
            return
        if name not in found:
            raise RigError(f"{os.path.basename(package)} has no module {name}")
        for needed in module_needs(found[name]):
            take(needed.replace("-", "_"))
        order.append(name)

    for name in MODULES:
        take(name.replace("-", "_"))
    os.mkdir(os.path.join(place, "modules"))
    for name in order:
        shutil.move(found[name], os.path.join(place, "modules", name + ".ko"))
    shutil.rmtree(whole)
    with open(os.path.join(place, "order"), "w", encoding="ascii") as out:
        out.write("\n".join(order) + "\n")


@functools.cache
def kernel():
    """The directory with the unpacked kernel, made when it is not there."""
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        name, version = kernel_package()
        key = hashlib.sha256(repr((CACHE_FORMAT, MODULES)).encode()).hexdigest()[:8]
        place = os.path.join(CACHE, f"{name}_{version.replace(':', '_')}_{key}")
        if os.path.exists(os.path.join(place, "order")):
            return place
        print(f"vm: fetching {name} {version}", flush=True)
        making = place + ".making"
        shutil.rmtree(making, ignore_errors=True)
        os.mkdir(making)
        package = kernel_download(name, version, making)
        kernel_unpack(package, making)
        os.remove(package)
        os.rename(making, place)
        return place


# --- the initramfs ---

class Archive:
    """A cpio archive in the "newc" format that the kernel unpacks: a header of hexadecimal fields, the name
    and the bytes, each padded to four bytes."""

    def __init__(self):
        self.out = io.BytesIO()
        self.names = set()
        self.number = 0

    def add(self, name, mode, data=b"", device=(0, 0)):
        name = name.strip("/")
        if name in self.names or not name:
            return
        if os.path.dirname(name):
            self.add(os.path.dirname(name), stat.S_IFDIR | 0o755)
        self.names.add(name)
        self.entry(name, mode, data, device)

    def entry(self, name, mode, data=b"", device=(0, 0)):
        self.number += 1
        fields = [self.number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        self.out.write(head + bytes(-len(head) % 4))
        self.out.write(data + bytes(-len(data) % 4))

    def add_file(self, name, path, mode=0o755):
        with open(path, "rb") as file:
            self.add(name, stat.S_IFREG | mode, file.read())

    def finish(self):
        self.entry("TRAILER!!!", 0)
        return self.out.getvalue()


def stripped(path, place):
    """The bytes of the program without what only a debugger reads."""
    copy = os.path.join(place, "stripped")
    run_quiet("strip", "--strip-debug", "-o", copy, path)
    with open(copy, "rb") as file:
        return file.read()


def libraries(path):
    """Shared libraries that the program needs, as name in the guest -> path here."""
    done = subprocess.run(["ldd", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    found = {}
    for line in done.stdout.decode(errors="replace").splitlines():
        match = re.match(r"\s*(?:(\S+) => )?(/\S+) \(0x", line)
        if match:
            found[match.group(2)] = os.path.realpath(match.group(2))
        elif "not found" in line:
            raise RigError(f"{path}: {line.strip()}")
    return found


def library_folders():
    triplet = os.path.basename(os.path.dirname(glob.glob("/usr/lib/*/libibverbs.so.1")[0])) \
        if glob.glob("/usr/lib/*/libibverbs.so.1") else "x86_64-linux-gnu"
    return [f"/usr/lib/{triplet}", f"/lib/{triplet}", "/usr/lib64", "/lib64"]


def library_find(name):
    for folder in library_folders():
        for path in (os.path.join(folder, name), os.path.join(folder, "libibverbs", name)):
            if os.path.exists(path):
                return path
    raise RigError(f"{name} is not here; ./dev test installs what the guest needs")


def initramfs(kernel_place, programs, files, place):
    """Writes the archive; programs: paths that become /bin/NAME, files: name in the guest -> bytes."""
    archive = Archive()
    for folder in ("proc", "sys", "dev", "tmp", "run", "share", "mnt", "root", "var/tmp"):
        archive.add(folder, stat.S_IFDIR | 0o755)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("etc/passwd", stat.S_IFREG | 0o644,
                b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    archive.add("etc/group", stat.S_IFREG | 0o644, b"root:x:0:\nnogroup:x:65534:\n")
    archive.add("etc/hosts", stat.S_IFREG | 0o644, b"127.0.0.1 localhost\n")
    archive.add("etc/nsswitch.conf", stat.S_IFREG | 0o644, b"hosts: files\n")
    archive.add_file("bin/busybox", find_tool("busybox"))
    archive.add("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    needed = {}
    for path in [find_tool(name) for name in TOOLS] + programs:
        archive.add("bin/" + os.path.basename(path), stat.S_IFREG | 0o755, stripped(path, place))
        needed.update(libraries(path))
    provider = library_find(PROVIDER)
    archive.add_file(provider, os.path.realpath(provider))
    archive.add("etc/libibverbs.d/rxe.driver", stat.S_IFREG | 0o644, b"driver rxe\n")
    needed.update(libraries(provider))
    for name in ALSO:
        path = library_find(name)
        needed[path] = os.path.realpath(path)
    for name, path in needed.items():
        archive.add_file(name, path)
    with open(os.path.join(kernel_place, "order"), encoding="ascii") as lines:
        order = lines.read().split()
    for name in order:
        archive.add_file(f"modules/{name}.ko", os.path.join(kernel_place, "modules", name + ".ko"), 0o644)
    archive.add("modules/order", stat.S_IFREG | 0o644, ("\n".join(order) + "\n").encode())
    archive.add_file("init", os.path.join(HERE, "init"))
    for name, data in files.items():
        archive.add(name, stat.S_IFREG | 0o755, data)
    path = os.path.join(place, "initramfs")
    with open(path, "wb") as out:
        out.write(archive.finish())
    return path


# --- tests ---

class Test:
    """A shell fragment with a head of comments: `# limit_s: N` and `# programs: PATTERN…`, below the build."""

    def __init__(self, path, build):
        self.name = os.path.splitext(os.path.basename(path))[0]
        with open(path, encoding="utf-8") as file:
            self.text = file.read()
        head = dict(re.findall(r"^# (limit_s|programs|share_s): (.*)$", self.text, re.M))
        self.limit_s = int(head.get("limit_s", "60"))
        self.programs = []
        self.missing = []
        for pattern in head.get("programs", "").split():
            found = [path for path in glob.glob(os.path.join(build, pattern)) if os.access(path, os.X_OK)
                     and os.path.isfile(path)]
            if not found:
                self.missing.append(pattern)
            self.programs += sorted(found)


SYNTHESIS = re.compile(r"Synthesis: Tested: (\d+) \| Passing: (\d+) \| Failing: (\d+) \| Crashing: (\d+)")
COUNTS = re.compile(r"^(\d+) passed, (\d+) failed", re.M)
COLOR = re.compile(r"\x1b\[[0-9;]*m")


def judge(status, log):
    """(passed, failed) of a test that ended with the status; its output may count cases of its own."""
    log = COLOR.sub("", log)
    passed = failed = 0
    for tested in SYNTHESIS.findall(log):
        passed += int(tested[1])
        failed += int(tested[2]) + int(tested[3])
    for counted in COUNTS.findall(log):
        passed += int(counted[0])
        failed += int(counted[1])
    if not passed and not failed:
        return (1, 0) if status == 0 else (0, 1)
    if status != 0 and not failed:
        failed = 1
    return passed, failed


# --- guests ---

def die_with_parent():
    """In a child before exec: the kernel kills it when this process ends, however that happens. Where that is allowed,
    a guest goes before the rest of this machine: a guest that is not let run takes its peers for gone."""
    try:
        os.nice(-5)
    except OSError:
        pass
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Guest:
    """One running guest. `wire` is None, or one end of the socket pair that joins two network cards."""

    def __init__(self, name, place, kernel_place, archive, wire, memory_mb):
        self.name = name
        self.place = place
        self.share = os.path.join(place, "share-" + name)
        self.console = os.path.join(place, f"console-{name}.log")
        self.buffer = b""
        self.alive = True
        os.makedirs(self.share, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(place, f"rig-{name}"))
        listener.listen(1)
        monitor = socket.socket(socket.AF_UNIX)
        monitor.bind(os.path.join(place, f"monitor-{name}"))
        monitor.listen(1)
        command = [
            find_tool("qemu-system-x86_64"), "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", CPU, "-smp", "2",
            "-m", str(memory_mb), "-nodefaults", "-display", "none", "-no-reboot",
            "-kernel", os.path.join(kernel_place, "kernel"), "-initrd", archive,
            "-append", f"console=ttyS0 quiet panic=-1 oops=panic mitigations=off tsc=reliable skew_tick=1 rig.name={name}",
            "-serial", "file:" + self.console,
            "-chardev", f"socket,id=rig,path={place}/rig-{name}", "-serial", "chardev:rig",
            "-chardev", f"socket,id=monitor,path={place}/monitor-{name}", "-mon", "chardev=monitor,mode=control",
            "-virtfs", f"local,path={self.share},mount_tag=share,security_model=mapped-xattr",
        ]
        if wire:
            mac = f"52:54:00:00:00:{ord(name):02x}"
            command += ["-netdev", f"socket,id=wire,fd={wire.fileno()}",
                        "-device", f"virtio-net-pci,id=card,netdev=wire,mac={mac}"]
        with open(os.path.join(place, f"qemu-{name}.log"), "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=die_with_parent,
                                            pass_fds=[wire.fileno()] if wire else [])
        self.channel = self.accept(listener)
        self.monitor = self.accept(monitor)
        self.monitor_reader = self.monitor.makefile("r")
        self.monitor_reader.readline()
        self.monitor_do("qmp_capabilities")

    def accept(self, listener):
        listener.settimeout(0.2)
        deadline = time.monotonic() + 20
        while True:
            try:
                connection = listener.accept()[0]
                listener.close()
                return connection
            except socket.timeout as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.end()
                    with open(os.path.join(self.place, f"qemu-{self.name}.log"), encoding="utf-8",
                              errors="replace") as log:
                        raise RigError("qemu does not start: " + log.read()[-400:]) from error

    def monitor_do(self, command, **arguments):
        self.monitor.settimeout(ANSWER_S_MAX)
        self.monitor.sendall((json.dumps({"execute": command, "arguments": arguments}) + "\n").encode())
        while True:
            answer = json.loads(self.monitor_reader.readline() or '{"error": "the monitor is gone"}')
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RigError(f"qemu monitor: {answer['error']}")

    def pin(self):
        """Each of the guest's processors on a core of its own: for measurements on a busy machine, where both
        would at times share one, and wait for each other a whole time slice."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            return
        for cpu in self.monitor_do("query-cpus-fast"):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(cpu["thread-id"], {cores[cpu["cpu-index"] % len(cores)]})

    def say(self, line):
        with contextlib.suppress(OSError):
            self.channel.sendall(line.encode() + b"\n")

    def lines(self):
        """What has arrived, as lists of words; an empty list means the guest is gone."""
        try:
            data = self.channel.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.alive = False
            return [[]]
        self.buffer += data
        *whole, self.buffer = self.buffer.split(b"\n")
        words = [line.decode(errors="replace").strip("\r\0 ").split() for line in whole]
        return [line[1:] for line in words if len(line) > 1 and line[0] == "@rig"]

    def log(self, name):
        try:
            with open(os.path.join(self.share, name + ".log"), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def console_tail(self):
        try:
            with open(self.console, encoding="utf-8", errors="replace") as file:
                return COLOR.sub("", "".join(file.readlines()[-40:]))
        except OSError:
            return ""

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Group:
    """Guests that run the same list of tests, each test at the same time on all of them."""

    def __init__(self, tests, on_log=None):
        self.tests = {test.name: test for test in tests}
        self.guests = []
        self.results = {}
        self.waiting = {}
        self.on_log = on_log

    def answer(self, guest, question):
        if question[:1] == ["link"] and question[1:] in (["on"], ["off"]):
            guest.monitor_do("set_link", name="card", up=question[1] == "on")
            guest.say("ok")
        elif question[:1] == ["meet"] and len(question) == 2:
            came = self.waiting.setdefault(question[1], [])
            came.append(guest)
            if len(came) == len(self.guests):
                del self.waiting[question[1]]
                for one in came:
                    one.say("ok")
        else:
            guest.say("unknown question")

    def run(self):
        """Runs until every guest is done or one died or hung: (ran, reason), with ran[guest name, test] =
        (status, seconds)."""
        ran, begun, reason = {}, {}, None
        done = set()
        deadline = {guest.name: time.monotonic() + BOOT_S_MAX for guest in self.guests}
        while len(done) < len(self.guests) and not reason:
            left = min(deadline[guest.name] for guest in self.guests if guest.name not in done) - time.monotonic()
            if left <= 0:
                reason = "hung"
                break
            ready = select.select([guest.channel for guest in self.guests if guest.name not in done], [], [],
                                  min(left, 0.3))[0]
            for guest in self.guests:
                if guest.channel not in ready:
                    continue
                for words in guest.lines():
                    if not words:
                        if guest.name not in done:
                            reason = f"guest {guest.name} died"
                    elif words[0] == "begin" and len(words) == 2 and words[1] in self.tests:
                        begun[guest.name] = words[1]
                        deadline[guest.name] = time.monotonic() + self.tests[words[1]].limit_s + GRACE_S
                    elif words[0] == "end" and len(words) == 4:
                        begun.pop(guest.name, None)
                        ran[guest.name, words[1]] = (int(words[2]), int(words[3]) / 1000)
                        deadline[guest.name] = time.monotonic() + GRACE_S + ANSWER_S_MAX
                    elif words[0] == "ask":
                        self.answer(guest, words[1:])
                    elif words[0] == "done":
                        done.add(guest.name)
            if self.on_log:
                self.on_log(self.guests[0])
        if reason == "hung":
            late = [guest.name for guest in self.guests
                    if guest.name not in done and deadline[guest.name] <= time.monotonic()]
            reason = f"guest {', '.join(late)} hung"
        if reason:
            where = [f"{test} on {guest}" for guest, test in begun.items()]
            reason += " in " + ", ".join(where) if where else " outside of tests"
        return ran, reason


@contextlib.contextmanager
def guests(tests, count=1, on_log=None, environment=None, pin=False):
    """Boots them with the tests on board: gives the Group; ends them whatever happens."""
    kernel_place = kernel()
    # So that what is below is undone then, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    # The paths of Unix sockets are short.
    folder = os.environ.get("TMPDIR", "/tmp")
    place = tempfile.mkdtemp(prefix="vm-", dir=folder if len(folder) < 70 else "/tmp")
    group = Group(tests, on_log)
    wires = socket.socketpair() if count == 2 else [None]
    try:
        programs = sorted({path for test in tests for path in test.programs})
        files = {f"tests/{test.name}": test.text.encode() for test in tests}
        files["tests/list"] = "".join(f"{test.name} {test.limit_s}\n" for test in tests).encode()
        files["environment"] = "".join(f"export {name}='{value}'\n"
                                       for name, value in (environment or {}).items()).encode()
        archive = initramfs(kernel_place, programs, files, place)
        for name, wire in zip("ab", wires):
            group.guests.append(Guest(name, place, kernel_place, archive, wire, 1536 if count == 1 else 768))
        for guest in group.guests if pin else []:
            guest.pin()
        yield group
    finally:
        for guest in group.guests:
            guest.end()
        for wire in wires:
            if wire:
                wire.close()
        shutil.rmtree(place, ignore_errors=True)
