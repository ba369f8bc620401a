"""The real backend against the stand-in tools: every hard case comes out as what it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from support.standin import DEMO
from support.worker_pipe import artifacts, follow, is_running, submit, summary, tail_until, until
from support.xcode_bench import Done, XcodeBench, an_xcode_bench

from rch.contract.records import Attestation, Job, decode_record
from rch.files.paths import worker_paths
from worker_agent.jobs import Jobs


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[XcodeBench]:
    with an_xcode_bench(tmp_path_factory.mktemp("worker")) as bench:
        yield bench


GREEN = ("success", "PASSED", 0)
RED = ("failed", "TESTS_FAILED", 50)
TORN = ("failed", "INCONSISTENT", 50)
BROKEN = ("failed", "INFRASTRUCTURE", 40)

# scenario, verdict, what the tool's exit code was, words of the summary
QUICK = [
    ("no-tests", ("failed", "NO_TESTS_RAN", 50), 0, "no test ran"),
    ("crash", ("failed", "TESTS_CRASHED", 50), 65, "testItBurnsDown"),
    ("hostile-names; invalid-utf8", RED, 65, "1 of 13 tests failed"),
    ("no-destination", ("failed", "NO_DESTINATION", 50), 70, "matching the provided destination"),
    ("early-exit", BROKEN, 65, "never finished bootstrapping"),
    ("exit-0-with-failures", TORN, 0, "said 0 with 1 failed tests"),
    ("truncated-bundle", TORN, 0, "result.xcresult"),
]
LONG = [
    ("localised; parallel", GREEN, 0, "7 tests passed"),
    ("packages", ("failed", "PACKAGE_RESOLUTION", 50), 74, "no versions of 'wax'"),
    ("script-phase", ("failed", "BUILD_FAILED", 50), 65, "the script phase 'Trim Wick' failed"),
    ("license", ("failed", "LICENSE", 50), 69, "have not agreed to the Xcode license"),
    ("existing-bundle", ("failed", "USAGE", 50), 64, "Existing file at -resultBundlePath"),
    ("failing:count=2", RED, 65, "2 of 7 tests failed"),
    ("flaky", RED, 65, "1 of 7 tests failed"),
    ("late-lines", GREEN, 0, "7 tests passed"),
    ("two-runtimes", GREEN, 0, "7 tests passed"),
    ("no-scheme", ("failed", "PROJECT_MISSING", 50), 65, "does not contain a scheme"),
    ("no-project", ("failed", "PROJECT_MISSING", 50), 66, "does not exist"),
    ("dependency-graph", ("failed", "BUILD_FAILED", 50), 65, "Cycle inside Lantern"),
    ("locked-database", BROKEN, 65, "database is locked"),
    ("runner-never-started", BROKEN, 65, "never began executing tests"),
    ("timed-out-registering", BROKEN, 65, "Timed out registering"),
    ("failed-to-open", BROKEN, 65, "install or launch the test runner"),
    ("lost-connection", BROKEN, 65, "Lost connection to testmanagerd"),
    ("exit-65-without-failures", TORN, 65, "said 65 without a failed test"),
    ("exit:code=1", TORN, 1, "said 1 without a failed test"),
    ("no-bundle", TORN, 0, "result.xcresult was not written"),
    ("unknown-shape", TORN, 0, "has another shape"),
]


def check(done: Done, verdict: tuple[str, str, int], code: int, words: str) -> None:
    assert done.verdict == verdict, done.log
    assert done.summary.backend_exit_code == code
    assert words in done.summary.human_summary
    assert done.summary.simulated
    assert done.summary.attempts == 1
    assert (done.summary.failure_kind == "EXECUTOR") is (verdict == BROKEN)


@pytest.mark.spec("9")
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("scenario", "verdict", "code", "words"), QUICK, ids=[row[0] for row in QUICK])
def test_a_hard_case_comes_out_as_what_it_is(
    bench: XcodeBench, scenario: str, verdict: tuple[str, str, int], code: int, words: str
) -> None:
    check(bench.run(scenario), verdict, code, words)


@pytest.mark.faults_long
@pytest.mark.spec("9")
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("scenario", "verdict", "code", "words"), LONG, ids=[row[0] for row in LONG])
def test_every_other_hard_case_too(
    bench: XcodeBench, scenario: str, verdict: tuple[str, str, int], code: int, words: str
) -> None:
    check(bench.run(scenario), verdict, code, words)


@pytest.mark.spec("8")
@pytest.mark.spec("10")
@pytest.mark.timeout(120)
def test_a_green_job_has_its_bundle_its_records_and_says_everywhere_that_it_is_simulated(
    bench: XcodeBench,
) -> None:
    done = bench.run("")
    assert done.verdict == GREEN
    assert done.summary.simulated
    index = done.json("job_index.json")["files"]
    assert {"result_xcresult", "junit", "test_summary", "build_summary", "events"} <= index.keys()
    assert (done.folder / "result.xcresult" / "Info.plist").is_file()
    attestation = decode_record((done.folder / "attestation.json").read_bytes(), Attestation)
    assert attestation.simulated
    assert attestation.backend == {"name": "xcodebuild", "version": "16C5032a"}
    tests = done.json("test_summary.json")
    assert (tests["passed"], tests["failed"]) == (7, 0)
    where, tools = done.json("destination.json"), done.json("toolchain.json")
    assert where["udid"] in done.log
    assert "udid" not in done.json("job_key_inputs.json")["destination"]
    assert (tools["xcode_version"], tools["xcode_build"]) == ("16.2", "16C5032a")
    assert {"boot", "test"} <= done.json("metrics.json")["stages_ms"].keys()
    assert "DEVELOPER_DIR" in done.json("executor_env.json")["keys"]
    records = {path.name: json.loads(path.read_bytes()) for path in done.folder.glob("*.json")}
    silent = {name for name, record in records.items() if record.get("simulated") is not True}
    # The host's own records are kept as it sent them; the inputs are the bytes of the key.
    assert silent == {"job.json", "invocation.json", "classifier_policy.json", "job_key_inputs.json"}
    assert len(records) > len(silent) + 9
    suites = ET.parse(done.folder / "junit.xml").getroot()  # noqa: S314  (our own)
    assert suites.get("name") == "simulated: xcodebuild"
    for suite in suites.iter("testsuite"):
        assert str(suite.get("name")).startswith("simulated: ")
        assert suite.find("properties/property[@name='simulated'][@value='true']") is not None
    event = json.loads((done.folder / "events.jsonl").read_text().partition("\n")[0])
    said = {"text": "simulated: stand-in tools, no verdict", "simulated": True}
    assert (event["n"], event["type"], event["data"]) == (1, "note", said)


@pytest.mark.timeout(120)
def test_a_scenario_that_there_is_not_is_named_and_no_trouble_of_the_worker(bench: XcodeBench) -> None:
    done = bench.run("hostile-name")
    check(done, ("failed", "USAGE", 50), 78, "there is no scenario 'hostile-name': no-destination,")
    assert " hostile-names, " in done.log


@pytest.mark.spec("11")
@pytest.mark.timeout(120)
def test_a_test_step_does_not_build_anew_what_the_build_step_of_its_run_built(bench: XcodeBench) -> None:
    with bench.pipe() as pipe:
        here, source = bench.capabilities(pipe), bench.source(pipe)
        build = bench.done(pipe, bench.wish(here, source, "build", run_id="run-of-two-steps"))
        assert (build.verdict, "boot" in build.json("metrics.json")["stages_ms"]) == (GREEN, False)
        assert "Lantern/Wick.swift" in build.log
        test = bench.done(pipe, bench.wish(here, source, "test", run_id="run-of-two-steps"))
    assert test.verdict == GREEN
    assert "Lantern/Wick.swift" not in test.log
    assert "WickTests.swift" in test.log


@pytest.mark.spec("9")
@pytest.mark.timeout(120)
def test_a_test_that_passes_on_a_retry_is_flaky_and_the_job_green(bench: XcodeBench) -> None:
    done = bench.run("flaky", "test", "-retry-tests-on-failure", "-test-iterations", "3")
    assert done.verdict == GREEN
    assert len(done.json("test_summary.json")["flaky"]) == 1
    assert "flakyFailure" in (done.folder / "junit.xml").read_text()


@pytest.mark.spec("9")
@pytest.mark.timeout(120)
def test_a_compile_error_has_its_place_in_the_repository(bench: XcodeBench) -> None:
    text = (DEMO / "Lantern" / "Wick.swift").read_text() + '#error("no such wick")\n'
    done = bench.run("", "build", files={"Lantern/Wick.swift": text})
    assert done.verdict == ("failed", "BUILD_FAILED", 50)
    first = done.json("build_summary.json")["first_error"]
    assert (first["path"], first["message"]) == ("Lantern/Wick.swift", "no such wick")


@pytest.mark.faults_long
@pytest.mark.timeout(120)
def test_the_other_xcode_writes_another_form_and_is_read_as_well(bench: XcodeBench) -> None:
    done = bench.run("", "test", xcode="26.0.1")
    assert done.verdict == GREEN
    assert done.json("toolchain.json")["xcode_build"] == "17A400"


# --- once more ----------------------------------------------------------------------------

ONCE_MORE = {"run": {"retry_infrastructure": 1}}


@pytest.mark.spec("4")
@pytest.mark.timeout(120)
def test_trouble_of_the_place_is_tried_once_more_in_the_same_job_and_both_are_on_record(
    bench: XcodeBench,
) -> None:
    done = bench.run("early-exit:first=1", config=ONCE_MORE)
    assert done.verdict == GREEN
    assert done.summary.attempts == 2
    assert "attempt 1 ended as INFRASTRUCTURE: Early unexpected exit" in done.evidence[0]
    assert "attempt 2 begins]" in done.log
    assert done.log.index("Early unexpected exit") < done.log.index("attempt 2 begins]")
    assert done.log.rindex("** TEST SUCCEEDED **") > done.log.index("attempt 2 begins]")
    notes = [each["data"]["text"] for each in done.events if each["type"] == "note"]
    assert any("attempt 2 begins" in text for text in notes)
    assert done.json("test_summary.json")["passed"] == 7
    assert done.json("metrics.json")["stages_ms"]["earlier_attempts"] > 0
    assert not (bench.data / "jobs" / done.job.job_id / "attempt-2").exists()


@pytest.mark.faults_long
@pytest.mark.spec("4")
@pytest.mark.timeout(120)
def test_trouble_that_stays_ends_the_job_after_the_second_try(bench: XcodeBench) -> None:
    done = bench.run("lost-connection", config=ONCE_MORE)
    assert (done.verdict, done.summary.attempts) == (BROKEN, 2)
    assert done.log.count("** TEST FAILED **") == 2


@pytest.mark.spec("4")
@pytest.mark.timeout(120)
def test_failed_tests_are_never_tried_again_by_the_worker(bench: XcodeBench) -> None:
    done = bench.run("failing:first=1", config=ONCE_MORE)
    assert (done.verdict, done.summary.attempts) == (RED, 1)


# --- ending -------------------------------------------------------------------------------


def begun(bench: XcodeBench, scenario: str) -> Job:
    """Submit a job and wait until its tests run."""
    with bench.pipe() as pipe:
        job = bench.wish(bench.capabilities(pipe), bench.source(pipe, scenario))
        submit(pipe, job)
        tail_until(pipe, job.job_id, "Testing started")
    return job


@pytest.mark.spec("4")
@pytest.mark.timeout(120)
def test_a_silent_tool_is_ended_and_the_job_says_so(bench: XcodeBench) -> None:
    done = bench.run("stall", config={"timeouts": {"overall_seconds": 100, "idle_log_seconds": 2}})
    assert done.verdict == ("failed", "TIMEOUT_IDLE", 40)
    assert "the job was ended: TIMEOUT_IDLE" in done.log


@pytest.mark.fault("W2")
@pytest.mark.timeout(120)
def test_a_tool_that_ignores_int_is_ended_by_term_and_its_own_simulator_is_off(bench: XcodeBench) -> None:
    job = begun(bench, "stall; ignore-int")
    group = Jobs(worker_paths(bench.env)).group(job.job_id)
    assert group is not None
    bench.ask("cancel", job_id=job.job_id, reason="USER")
    with bench.pipe() as pipe:
        assert follow(pipe, job.job_id)[2] == "CANCELLED"
    assert not is_running(group.pgid)
    told = summary(bench, job)
    assert (told.status, told.exit_code, told.simulated) == ("cancelled", 80, True)
    assert (artifacts(bench, job) / "build.log").stat().st_size > 0
    assert not bench.running(job.job_id)


@pytest.mark.fault("W2")
@pytest.mark.timeout(120)
def test_an_orphan_that_holds_the_output_keeps_no_job_and_does_not_live_on(bench: XcodeBench) -> None:
    done = bench.run("orphan")
    assert done.verdict == GREEN
    assert done.summary.duration_ms < 60_000
    until(lambda: not bench.running(done.job.job_id))


@pytest.mark.spec("11")
@pytest.mark.timeout(120)
def test_a_secret_of_the_passed_environment_is_in_no_log(tmp_path: Path) -> None:
    with an_xcode_bench(tmp_path, 'pass_env = ["RCH_STANDIN_SCENARIO", "LANTERN_TOKEN"]\n') as bench:
        # The tool prints the bundle's path: a word of it stands for a secret that it was given.
        bench.env |= {"LANTERN_TOKEN": "Test session results", "RCH_STANDIN_SCENARIO": "parallel"}
        done = bench.run("")
    assert done.verdict == GREEN
    assert "Test session results" not in (done.folder / "build.log").read_text()
    assert "[REDACTED], code coverage, and logs" in done.log
    assert "LANTERN_TOKEN" in done.json("executor_env.json")["keys"]


@pytest.mark.faults_long
@pytest.mark.spec("11")
@pytest.mark.timeout(120)
def test_a_flood_is_cut_in_the_middle_and_the_verdict_stands(tmp_path: Path) -> None:
    with an_xcode_bench(tmp_path, "max_log_bytes = 65536\n") as bench:
        done = bench.run("flood:bytes=4000000")
    assert done.verdict == GREEN
    assert done.summary.log_truncated
    assert (done.folder / "build.log").stat().st_size <= 65536


# --- who may ------------------------------------------------------------------------------


@pytest.mark.spec("9")
@pytest.mark.timeout(60)
def test_only_a_worker_that_is_told_to_has_stand_ins_and_then_nothing_else(tmp_path: Path) -> None:
    with an_xcode_bench(tmp_path) as bench:
        told = bench.ask("probe")
        here = told["capabilities"]
        assert here["simulated"]
        assert {each["kind"] for each in here["toolchains"]} == {"xcode"}
        assert all(each["path"].startswith(str(bench.home)) for each in here["toolchains"])
        assert here["os_name"] == "macOS"
        assert "backend_xcodebuild" in told["features"]
        (bench.home / "config" / "worker.toml").write_text("")
        plain = bench.ask("probe")
        assert not plain["capabilities"]["simulated"]
        assert "backend_xcodebuild" not in plain["features"]
        bench.env["RCH_WORKER_SIMULATE"] = "1"
        assert bench.ask("probe")["capabilities"]["simulated"]
        bench.env["RCH_WORKER_SIMULATE"] = "0"
        assert not bench.ask("probe")["capabilities"]["simulated"]


# --- what is kept -------------------------------------------------------------------------

PACKAGED = (
    (DEMO / "Lantern.xcodeproj" / "project.pbxproj")
    .read_text()
    .replace(
        "objects = {",
        'objects = { AA00 = { isa = XCRemoteSwiftPackageReference; repositoryURL = "file:///wax.git"; };',
        1,
    )
)
PINS = "Lantern.xcodeproj/project.xcworkspace/xcshareddata/swiftpm/Package.resolved"
PINNED = '{"pins": [{"identity": "wax", "state": {"version": "4.1.0"}}], "version": 2}'
SHARED = {"cache": {"namespace": "lantern", "spm": "shared"}}


@pytest.mark.spec("11")
@pytest.mark.timeout(120)
def test_packages_are_resolved_in_a_phase_of_their_own_and_shared_under_a_namespace(
    bench: XcodeBench,
) -> None:
    files = {"Lantern.xcodeproj/project.pbxproj": PACKAGED, PINS: PINNED}
    done = bench.run("", "build", files=files, config=SHARED)
    assert done.verdict == GREEN, done.log
    assert [each["data"]["name"] for each in done.events if each["type"] == "stage"][-2:] == ["build"] * 2
    assert "resolve" in done.json("metrics.json")["stages_ms"]
    assert "-onlyUsePackageVersionsFromResolvedFile" in done.log
    (shared,) = (bench.data / "caches" / "lantern" / "spm").iterdir()
    assert shared.name == "xcode_16C5032a__macos_15__arm64"
    assert (shared / "checkouts" / "wax").is_dir()


@pytest.mark.spec("9")
@pytest.mark.timeout(120)
def test_packages_that_cannot_be_resolved_end_the_job_before_anything_is_built(bench: XcodeBench) -> None:
    files = {"Lantern.xcodeproj/project.pbxproj": PACKAGED}
    done = bench.run("packages", files=files)
    assert done.verdict == ("failed", "PACKAGE_RESOLUTION", 50)
    assert done.summary.backend_exit_code == 74
    assert {"boot", "test"}.isdisjoint(done.json("metrics.json")["stages_ms"])
    assert "Monitoring boot status" not in done.log


@pytest.mark.faults_long
@pytest.mark.spec("11")
@pytest.mark.timeout(120)
def test_a_warm_workspace_builds_only_what_changed(bench: XcodeBench) -> None:
    warm = {"cache": {"namespace": "warm", "workspace": "warm"}}
    assert bench.run("", "build", config=warm).verdict == GREEN
    text = (DEMO / "Lantern" / "Wick.swift").read_text() + "\n// trimmed\n"
    again = bench.run("", "build", files={"Lantern/Wick.swift": text}, config=warm)
    assert again.verdict == GREEN
    assert "Wick.swift" in again.log
    assert "Lantern/Lantern.swift" not in again.log
    assert again.json("metrics.json")["counts"]["workspace_warm"] == 1


@pytest.mark.faults_long
@pytest.mark.spec("11")
@pytest.mark.timeout(120)
def test_jobs_beside_each_other_take_turns_with_what_they_share(tmp_path: Path) -> None:
    with an_xcode_bench(tmp_path, "max_concurrent_jobs = 2\n") as bench, bench.pipe() as pipe:
        config = {"cache": {"namespace": "two", "derived_data": "shared"}}
        here, source = bench.capabilities(pipe), bench.source(pipe, "slow:seconds=0.2")
        first, second = (bench.wish(here, source, config=config) for _ in range(2))
        submit(pipe, first)
        tail_until(pipe, first.job_id, "Testing started")
        submit(pipe, second)
        log = follow(pipe, second.job_id)[0]
        assert "waiting for cache two/derived_data/shared/" in log
        assert f"job {first.job_id}" in log
        assert [summary(bench, one).status for one in (first, second)] == ["success", "success"]
