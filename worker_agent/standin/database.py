"""`database.sqlite3` of a result bundle: the tables that results can be checked against.

Tables and columns are those of the recorded bundles of Xcode 16.2, whose columns stand in no
fixed order; times count from 2001. Tables that no test result needs are left out.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from worker_agent.standin.facts import ARCH
from worker_agent.standin.model import EXPECTED, FAILED, PASSED, SKIPPED, Attempt, Case, Failure, Outcome

TABLES: Mapping[str, str] = {
    "TestPlans": "name TEXT",
    "TestPlanConfigurations": "name TEXT, language TEXT, region TEXT, testPlan_fk INTEGER NOT NULL",
    "Invocations": "scheme TEXT, timestamp REAL, uniqueIdentifier TEXT, workspacePath TEXT",
    "Platforms": "identifier TEXT, userDescription TEXT",
    "SDKs": "identifier TEXT, isInternal INTEGER, name TEXT, operatingSystemVersion TEXT",
    "Devices": "identifier TEXT, name TEXT, modelName TEXT, modelCode TEXT, modelUTI TEXT, cpuKind TEXT, "
    "cpuCount INTEGER, cpuSpeedInMHz INTEGER, busSpeedInMHz INTEGER, ramSizeInMegabytes INTEGER, "
    "physicalCPUCoresPerPackage INTEGER, logicalCPUCoresPerPackage INTEGER, nativeArchitecture TEXT, "
    "operatingSystemVersion TEXT, operatingSystemVersionWithBuildNumber TEXT, isWireless INTEGER, "
    "isConcreteDevice INTEGER, platform_fk INTEGER",
    "DeveloperTools": "xcodeVersion TEXT, xcodeBuildVersion TEXT",
    "RunDestinations": "name TEXT, architecture TEXT, sdk_fk INTEGER, device_fk INTEGER",
    "Actions": "name TEXT, started REAL, finished REAL, orderInInvocation INTEGER, diagnosticsRef TEXT, "
    "host_fk INTEGER, developerTools_fk INTEGER, invocation_fk INTEGER NOT NULL, "
    "runDestination_fk INTEGER, testPlan_fk INTEGER NOT NULL",
    "Testables": "name TEXT, identifierURL TEXT, testKind TEXT, projectRelativePath TEXT, "
    "externalTestReference TEXT, orderInTestPlan INTEGER, testPlan_fk INTEGER NOT NULL",
    "TestPlanRuns": "orderInAction INTEGER, action_fk INTEGER NOT NULL, "
    "configuration_fk INTEGER NOT NULL, testPlan_fk INTEGER NOT NULL",
    "TestableRuns": "orderInTestPlanRun INTEGER, diagnosticsDirectoryName TEXT, "
    "testPlanRun_fk INTEGER NOT NULL, testable_fk INTEGER NOT NULL",
    "TestSuites": "identifier TEXT, identifierURL TEXT, name TEXT, summary TEXT, orderInParent INTEGER, "
    "parentSuite_fk INTEGER, testable_fk INTEGER",
    "TestCases": "identifier TEXT, identifierURL TEXT, name TEXT, summary TEXT, orderInTestSuite INTEGER, "
    "testSuite_fk INTEGER NOT NULL",
    "TestSuiteRuns": "duration REAL, orderInParent INTEGER, parentSuiteRun_fk INTEGER, "
    "testSuite_fk INTEGER NOT NULL, testableRun_fk INTEGER",
    "RepetitionPolicies": "repetition INTEGER, repetitionModeString TEXT, totalRepetitions INTEGER",
    "SkipNotices": "message TEXT, fileName TEXT, lineNumber INTEGER, timestamp REAL",
    "TestCaseRuns": "duration REAL, result TEXT, orderInTestSuiteRun INTEGER, repetitionPolicy_fk INTEGER, "
    "skipNotice_fk INTEGER, dynamicTestParameters_fk INTEGER, testCase_fk INTEGER NOT NULL, "
    "testSuiteRun_fk INTEGER NOT NULL",
    "TestCaseResultsByDestinationAndConfiguration": "result TEXT, destination_fk INTEGER, "
    "configuration_fk INTEGER, testCase_fk INTEGER NOT NULL",
    "SourceCodeLocations": "filePath TEXT, lineNumber INTEGER",
    "SourceCodeContexts": "location_fk INTEGER",
    "TestIssues": "uuid TEXT, issueType TEXT, compactDescription TEXT, detailedDescription TEXT, "
    "sanitizedDescription TEXT, timestamp REAL, isTopLevelFailure INTEGER, orderInOwner INTEGER, "
    "expression_fk INTEGER, associatedError_fk INTEGER, sourceCodeContext_fk INTEGER, "
    "testCaseRun_fk INTEGER, testSuiteRun_fk INTEGER",
    "ExpectedFailures": "uuid TEXT, failureReason TEXT, isTopLevelFailure INTEGER, orderInOwner INTEGER, "
    "issue_fk INTEGER, testCaseRun_fk INTEGER, testSuiteRun_fk INTEGER",
    "TestValues": "typeName TEXT, fullyQualifiedTypeName TEXT, label TEXT, description TEXT, "
    "debugDescription TEXT, isCollection INTEGER, children TEXT, orderInParent INTEGER",
    "Parameters": "label TEXT, name TEXT, typeName TEXT, orderInTestCase INTEGER, "
    "testCase_fk INTEGER NOT NULL",
    "Arguments": "identifier TEXT, orderInTestCaseRun INTEGER, parameter_fk INTEGER, "
    "testCaseRun_fk INTEGER NOT NULL, testValue_fk INTEGER NOT NULL",
}  # fmt: skip

RESULTS = {PASSED: "Success", FAILED: "Failure", SKIPPED: "Skipped", EXPECTED: "Expected Failure"}
"""What the database calls each result."""

_EPOCH = 978_307_200


def write(file: Path, outcome: Outcome) -> None:
    """Make the database of a run of tests; of a build alone there are the tables and no rows."""
    connection = sqlite3.connect(file)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for table, columns in TABLES.items():
            connection.execute(f"CREATE TABLE {table} ({columns})")
        if outcome.cases is not None:
            _Rows(connection, outcome).fill(outcome.cases)
        connection.commit()
    finally:
        connection.close()


class _Rows:
    def __init__(self, connection: sqlite3.Connection, outcome: Outcome) -> None:
        self._connection = connection
        self._outcome = outcome
        self._suites: dict[tuple[str, str], tuple[int, int]] = {}

    def _add(self, table: str, /, **row: Any) -> int:
        names = ", ".join(row)
        marks = ", ".join("?" for _ in row)
        words = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608  (names of this module)
        return int(self._connection.execute(words, tuple(row.values())).lastrowid or 0)

    def fill(self, cases: tuple[Case, ...]) -> None:
        outcome, at = self._outcome, self._outcome.started - _EPOCH
        plan = self._add("TestPlans", name=outcome.scheme)
        configuration = self._add("TestPlanConfigurations", name="Test Scheme Action", testPlan_fk=plan)
        invocation = self._add(
            "Invocations",
            scheme=outcome.scheme,
            timestamp=at,
            uniqueIdentifier=str(uuid.uuid4()).upper(),
            workspacePath=outcome.root,
        )
        destination = self._destination()
        action = self._add(
            "Actions",
            name="Test",
            started=at,
            finished=outcome.finished - _EPOCH,
            orderInInvocation=0,
            invocation_fk=invocation,
            runDestination_fk=destination,
            testPlan_fk=plan,
        )
        run = self._add(
            "TestPlanRuns",
            orderInAction=0,
            action_fk=action,
            configuration_fk=configuration,
            testPlan_fk=plan,
        )
        for number, target in enumerate(outcome.targets):
            testable = self._add(
                "Testables",
                name=target,
                identifierURL=self._url(target),
                testKind="xctest-tool hosted",
                projectRelativePath=f"{outcome.container}.xcodeproj",
                orderInTestPlan=number,
                testPlan_fk=plan,
            )
            of_it = self._add(
                "TestableRuns",
                orderInTestPlanRun=number,
                diagnosticsDirectoryName="",
                testPlanRun_fk=run,
                testable_fk=testable,
            )
            for order, case in enumerate(case for case in cases if case.target == target):
                self._case(case, order, testable, of_it, destination, configuration)

    def _url(self, *words: str) -> str:
        path = "/".join(quote(word, safe="/()$:") for word in (self._outcome.container, *words))
        return f"test://com.apple.xcode/{path}"

    def _destination(self) -> int:
        device = self._outcome.device
        short = "iphonesimulator" if device.simulator else "macosx"
        platform = self._add(
            "Platforms", identifier=f"com.apple.platform.{short}", userDescription=device.platform
        )
        name = "Simulator - iOS" if device.simulator else "macOS"
        sdk = self._add(
            "SDKs",
            identifier=f"{short}{device.os_version}",
            isInternal=0,
            name=f"{name} {device.os_version}",
            operatingSystemVersion=device.os_version,
        )
        row = self._add(
            "Devices",
            identifier=device.udid,
            name=device.name,
            modelName=device.model,
            modelCode=device.model_code,
            nativeArchitecture=ARCH,
            operatingSystemVersion=device.os_version,
            operatingSystemVersionWithBuildNumber=f"{device.os_version} ({device.os_build})",
            isWireless=0,
            isConcreteDevice=1,
            platform_fk=platform,
        )
        return self._add("RunDestinations", name=device.name, architecture=ARCH, sdk_fk=sdk, device_fk=row)

    def _suite(self, case: Case, testable: int, run: int) -> tuple[int, int]:
        """Row of the suite that holds a case, and of its run; suites around it come first."""
        if not case.suites:
            path, title = f"{case.target}/$TopLevelTests", "Top-level Tests"
            return self._one_suite(case.target, path, title, None, testable, run)
        found: tuple[int, int] | None = None
        for depth, (name, display) in enumerate(case.suites):
            path = "/".join(each for each, _ in case.suites[: depth + 1])
            found = self._one_suite(case.target, path, display or name, found, testable, run)
        assert found is not None  # noqa: S101  (there is a suite)
        return found

    def _one_suite(
        self, target: str, path: str, title: str, above: tuple[int, int] | None, testable: int, run: int
    ) -> tuple[int, int]:
        if (target, path) not in self._suites:
            order = len(self._suites)
            suite = self._add(
                "TestSuites",
                identifier=path,
                identifierURL=self._url(target, path),
                name=title,
                orderInParent=order,
                parentSuite_fk=above[0] if above else None,
                testable_fk=None if above else testable,
            )
            row = self._add(
                "TestSuiteRuns",
                duration=0.0,
                orderInParent=order,
                parentSuiteRun_fk=above[1] if above else None,
                testSuite_fk=suite,
                testableRun_fk=None if above else run,
            )
            self._suites[target, path] = suite, row
        return self._suites[target, path]

    def _case(
        self, case: Case, order: int, testable: int, run: int, destination: int, configuration: int
    ) -> None:
        suite, suite_run = self._suite(case, testable, run)
        url = case.identifier.removesuffix("()") if case.xctest else case.identifier
        row = self._add(
            "TestCases",
            identifier=case.identifier,
            identifierURL=self._url(case.target, url),
            name=case.title,
            orderInTestSuite=order,
            testSuite_fk=suite,
        )
        for number, attempt in enumerate(case.attempts, 1):
            self._attempt(case, attempt, number, row, suite_run, order)
        for where, of in ((None, None), (destination, None), (destination, configuration)):
            self._add(
                "TestCaseResultsByDestinationAndConfiguration",
                result=RESULTS[case.result],
                destination_fk=where,
                configuration_fk=of,
                testCase_fk=row,
            )

    def _attempt(
        self, case: Case, attempt: Attempt, number: int, row: int, suite_run: int, order: int
    ) -> None:
        policy = skip = None
        if len(case.attempts) > 1:
            policy = self._add(
                "RepetitionPolicies",
                repetition=number,
                repetitionModeString="RetryOnFailure" if case.retried else "FixedIterations",
                totalRepetitions=len(case.attempts),
            )
        if attempt.skip is not None:
            skip = self._add("SkipNotices", message=attempt.skip, lineNumber=0)
        run = self._add(
            "TestCaseRuns",
            duration=attempt.seconds,
            result=RESULTS[attempt.result],
            orderInTestSuiteRun=order,
            repetitionPolicy_fk=policy,
            skipNotice_fk=skip,
            testCase_fk=row,
            testSuiteRun_fk=suite_run,
        )
        self._arguments(case, row, run)
        for place, failure in enumerate(attempt.failures):
            self._failure(attempt, failure, place, run)

    def _arguments(self, case: Case, row: int, run: int) -> None:
        for place, value in enumerate(case.arguments):
            parameter = self._add(
                "Parameters", name="value", label="value", orderInTestCase=0, testCase_fk=row
            )
            kept = self._add("TestValues", description=value, debugDescription=value, isCollection=0)
            self._add(
                "Arguments",
                orderInTestCaseRun=place,
                parameter_fk=parameter,
                testCaseRun_fk=run,
                testValue_fk=kept,
            )

    def _failure(self, attempt: Attempt, failure: Failure, place: int, run: int) -> None:
        location = self._add("SourceCodeLocations", filePath=failure.path, lineNumber=failure.line)
        context = self._add("SourceCodeContexts", location_fk=location)
        expected = attempt.result == EXPECTED
        issue = self._add(
            "TestIssues",
            uuid=str(uuid.uuid4()).upper(),
            issueType="Assertion Failure",
            compactDescription=failure.message,
            sanitizedDescription=failure.message,
            timestamp=self._outcome.finished - _EPOCH,
            isTopLevelFailure=0 if expected else 1,
            orderInOwner=None if expected else place,
            sourceCodeContext_fk=context,
            testCaseRun_fk=None if expected else run,
        )
        if expected:
            self._add(
                "ExpectedFailures",
                uuid=str(uuid.uuid4()).upper(),
                failureReason="known",
                isTopLevelFailure=1,
                orderInOwner=place,
                issue_fk=issue,
                testCaseRun_fk=run,
            )
