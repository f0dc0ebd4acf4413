use std::time::{Duration, Instant, SystemTime};

use prost_types::Timestamp;

use super::*;
use crate::config::control::BoundaryLogOutput;
use crate::control::tests::agent;
use crate::pb::agent::lifecycle::State;
use crate::pb::agent::{
    BatchCreateLogsRequest, BatchCreateLogsResponse, Lifecycle, Log, Manifest, Startup, Stats,
    Timing, UpdateLifecycleRequest, UpdateStartupRequest, UpdateStatsRequest,
    WorkspaceAgentScriptCompletedRequest,
};
use crate::wire::drpc::UNIMPLEMENTED;

/// How long statistics are shown.
const EXPIRY: Duration = Duration::from_secs(120);

fn caller(boundary_log: Option<BoundaryLog>) -> Caller {
    with(boundary_log, Some(EXPIRY))
}

fn with(boundary_log: Option<BoundaryLog>, statistics: Option<Duration>) -> Caller {
    let metrics = ControlMetrics::new().unwrap();
    let service = Service::new(
        Duration::from_millis(1500),
        boundary_log,
        None,
        statistics,
        metrics,
    );
    Caller {
        service: Arc::new(service),
        agent: agent(),
        role: Role::Agent,
    }
}

async fn call(caller: &Caller, name: &str, request: impl Message) -> Result<Bytes, RemoteError> {
    let method = caller.method(format!("{PREFIX}{name}").as_bytes())?;
    caller.call(method, request.encode_to_vec().into()).await
}

async fn refused(caller: &Caller, name: &str, request: impl Message) -> String {
    let error = call(caller, name, request).await.unwrap_err();
    assert_eq!(error.code, 0, "{error:?}");
    error.text
}

fn count(caller: &Caller, method: RpcMethod, outcome: RpcOutcome) -> u64 {
    caller.service.metrics.calls(method, outcome)
}

#[tokio::test]
async fn every_method_of_the_interface_is_answered() {
    let caller = caller(None);
    for method in RpcMethod::ALL {
        use RpcMethod::*;
        let answer = call(&caller, method.label(), ()).await;
        let (outcome, code) = match method {
            CreateSubAgent | DeleteSubAgent | ListSubAgents | UpdateAppStatus
            | PushContextState => (RpcOutcome::Unimplemented, Some(UNIMPLEMENTED)),
            // Empty requests of these lack something.
            UpdateLifecycle | UpdateStartup | ScriptCompleted | BatchCreateLogs => {
                (RpcOutcome::Error, Some(0))
            }
            Unknown => (RpcOutcome::Unimplemented, Some(0)),
            _ => (RpcOutcome::Ok, None),
        };
        assert_eq!(answer.err().map(|error| error.code), code, "{method:?}");
        assert_eq!(count(&caller, *method, outcome), 1, "{method:?}");
    }
    let manifest = call(&caller, "GetManifest", ()).await.unwrap();
    assert_eq!(Manifest::decode(manifest).unwrap().agent_name, "name");
    let stats = call(&caller, "UpdateStats", ()).await.unwrap();
    assert_eq!(
        stats,
        [0x0a, 0x08, 0x08, 0x01, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01][..]
    );
}

#[test]
fn a_name_that_is_none_is_repeated_in_part() {
    let caller = caller(None);
    let refused = |path: &[u8]| caller.method(path).unwrap_err().text;
    assert_eq!(
        refused(b"/coder.agent.v2.Agent/Nope"),
        "protocol error: unknown rpc: \"/coder.agent.v2.Agent/Nope\""
    );
    assert!(refused(b"GetManifest").contains("unknown rpc"));
    assert!(refused(b"/coder.agent.v2.Agent/unknown").contains("unknown rpc"));
    assert!(refused(b"\xff\"\n").contains("\\\"\\n"));
    assert!(refused(&[b'/'; 3 << 20]).len() < 2 * MAX_NAME);
}

#[tokio::test]
async fn a_call_that_is_dropped_is_counted_as_cancelled() {
    let caller = caller(None);
    drop(caller.call(RpcMethod::GetManifest, Bytes::new()));
    assert_eq!(
        count(&caller, RpcMethod::GetManifest, RpcOutcome::Cancelled),
        1
    );
}

#[tokio::test]
async fn the_startup_is_echoed_when_it_is_valid() {
    let caller = caller(None);
    let startup = Startup {
        version: "v2.30.0".into(),
        expanded_directory: "/home/coder".into(),
        subsystems: vec![1, 3],
    };
    let send = |startup: Startup| UpdateStartupRequest {
        startup: Some(startup),
    };
    let echo = call(&caller, "UpdateStartup", send(startup.clone())).await;
    assert_eq!(Startup::decode(echo.unwrap()).unwrap(), startup);
    let version = Startup {
        version: "2.30.0".into(),
        ..startup.clone()
    };
    let text = refused(&caller, "UpdateStartup", send(version)).await;
    assert_eq!(text, "invalid agent semver version \"2.30.0\"");
    for number in [0, 4, -1] {
        let subsystem = Startup {
            subsystems: vec![1, number],
            ..startup.clone()
        };
        let text = refused(&caller, "UpdateStartup", send(subsystem)).await;
        assert_eq!(text, format!("invalid agent subsystem {number}"));
    }
}

#[tokio::test]
async fn statistics_are_kept_where_they_are_collected() {
    let request = || UpdateStatsRequest {
        stats: Some(Stats {
            rx_bytes: 5,
            session_count_ssh: 2,
            ..Stats::default()
        }),
    };
    let bytes = |caller: &Caller| {
        let shown = caller.agent.statistics.shown(Instant::now(), EXPIRY);
        shown.map(|shown| (shown.rx_bytes, shown.counts.ssh))
    };
    let caller = caller(None);
    // An agent asks for the interval first.
    call(&caller, "UpdateStats", ()).await.unwrap();
    assert_eq!(bytes(&caller), None);
    call(&caller, "UpdateStats", request()).await.unwrap();
    let sidecar = Caller {
        role: Role::named("weir"),
        ..caller.clone()
    };
    let other = UpdateStatsRequest {
        stats: Some(Stats {
            rx_bytes: 1,
            ..Stats::default()
        }),
    };
    call(&sidecar, "UpdateStats", other).await.unwrap();
    assert_eq!(bytes(&caller), Some((6, 2)));

    let without = with(None, None);
    call(&without, "UpdateStats", request()).await.unwrap();
    assert_eq!(bytes(&without), None);
}

#[tokio::test]
async fn another_build_begins_anew() {
    let caller = caller(None);
    let metrics = ControlMetrics::new().unwrap();
    let start_up = async |caller: &Caller, version: &str| {
        let startup = Startup {
            version: version.to_owned(),
            ..Startup::default()
        };
        let request = UpdateStartupRequest {
            startup: Some(startup),
        };
        call(caller, "UpdateStartup", request).await.unwrap();
    };
    let stats = UpdateStatsRequest {
        stats: Some(Stats::default()),
    };
    let is_shown = || {
        caller
            .agent
            .statistics
            .shown(Instant::now(), EXPIRY)
            .is_some()
    };
    let seat = caller.agent.enter(Role::Agent, &metrics);
    start_up(&caller, "v2.30.0").await;
    call(&caller, "UpdateStats", stats).await.unwrap();
    drop(seat);
    let _seat = caller.agent.enter(Role::Agent, &metrics);
    start_up(&caller, "v2.30.0").await;
    assert!(is_shown(), "the same build");
    let sidecar = Caller {
        role: Role::named("weir"),
        ..caller.clone()
    };
    start_up(&sidecar, "v0.1.0").await;
    assert!(is_shown(), "not the agent");
    let _other = caller.agent.enter(Role::Agent, &metrics);
    start_up(&caller, "v2.31.0").await;
    assert!(!is_shown());
}

#[tokio::test]
async fn a_lifecycle_is_echoed_with_a_time() {
    let caller = caller(None);
    let send = |state, changed_at| UpdateLifecycleRequest {
        lifecycle: Some(Lifecycle { state, changed_at }),
    };
    let at = Timestamp {
        seconds: 1_767_225_600,
        nanos: 5,
    };
    let echo = call(&caller, "UpdateLifecycle", send(5, Some(at)))
        .await
        .unwrap();
    let expected = Lifecycle {
        state: 5,
        changed_at: Some(at),
    };
    assert_eq!(Lifecycle::decode(echo).unwrap(), expected);
    let echo = call(&caller, "UpdateLifecycle", send(9, None))
        .await
        .unwrap();
    let now = Lifecycle::decode(echo).unwrap().changed_at.unwrap();
    assert!(now.seconds > at.seconds, "{now:?}");
    assert_eq!(caller.agent.status(SystemTime::now()).1, State::Off);
    for state in [0, 10, -1] {
        let text = refused(&caller, "UpdateLifecycle", send(state, None)).await;
        assert_eq!(text, format!("unknown lifecycle state {state}"));
    }
}

#[tokio::test]
async fn the_timing_of_a_script_is_checked() {
    let caller = caller(None);
    let at = |seconds| {
        Some(Timestamp {
            seconds,
            nanos: 500_000_000,
        })
    };
    let valid = Timing {
        script_id: Bytes::from_static(&[7; 16]),
        start: at(0),
        end: at(0),
        exit_code: 1,
        stage: 2,
        status: 3,
    };
    let send = |timing| WorkspaceAgentScriptCompletedRequest {
        timing: Some(timing),
    };
    let answer = call(&caller, "ScriptCompleted", send(valid.clone())).await;
    assert_eq!(answer, Ok(Bytes::new()));
    let zero = Some(Timestamp {
        seconds: ZERO_SECONDS,
        nanos: 0,
    });
    type Change<'a> = &'a dyn Fn(&mut Timing);
    let faults: [(&str, Change<'_>); 9] = [
        ("15 bytes", &|t| t.script_id = Bytes::from_static(&[7; 15])),
        ("start time", &|t| t.start = None),
        ("start time", &|t| t.start = zero),
        ("end time", &|t| t.end = None),
        ("end time", &|t| t.end = zero),
        ("after", &|t| t.start = at(1)),
        ("stage 3", &|t| t.stage = 3),
        ("status 4", &|t| t.status = 4),
        ("status -1", &|t| t.status = -1),
    ];
    for (said, change) in faults {
        let mut timing = valid.clone();
        change(&mut timing);
        let text = refused(&caller, "ScriptCompleted", send(timing)).await;
        assert!(text.contains(said), "{text}");
    }
    let text = refused(&caller, "ScriptCompleted", ()).await;
    assert!(text.contains("required"), "{text}");
}

const ZERO_SECONDS: i64 = -62_135_596_800;

#[tokio::test]
async fn log_lines_beyond_a_mebibyte_are_answered_with_the_limit() {
    let caller = caller(None);
    let send = |id: &'static [u8], bytes: usize| BatchCreateLogsRequest {
        log_source_id: Bytes::from_static(id),
        logs: vec![Log {
            output: "x".repeat(bytes),
            ..Log::default()
        }],
    };
    for (bytes, exceeded) in [(1 << 20, false), (1, true), (0, false)] {
        let answer = call(&caller, "BatchCreateLogs", send(&[0; 16], bytes)).await;
        let answer = BatchCreateLogsResponse::decode(answer.unwrap()).unwrap();
        assert_eq!(answer.log_limit_exceeded, exceeded, "{bytes} bytes");
    }
    let text = refused(&caller, "BatchCreateLogs", send(&[0; 15], 1)).await;
    assert!(text.contains("15 bytes"), "{text}");
}

#[tokio::test]
async fn requests_that_do_not_decode_are_refused() {
    let caller = caller(None);
    let send = |name: &str, bytes: &'static [u8]| {
        let method = caller.method(format!("{PREFIX}{name}").as_bytes()).unwrap();
        caller.call(method, Bytes::from_static(bytes))
    };
    for (name, bytes, said) in [
        (
            "ReportBoundaryLogs",
            b"\x12\x01\xff".as_slice(),
            "string field contains invalid UTF-8",
        ),
        ("ReportBoundaryLogs", b"\x0a\x05\x08", "cannot parse"),
        ("UpdateStartup", b"\x0a\x03\x0a\x01\xff", "UTF-8"),
        ("GetManifest", b"\x0a\x05\x08", "proto"),
        ("GetServiceBanner", b"\x07", "proto"),
        ("UpdateStats", b"\x0a\xff", "proto"),
    ] {
        let error = send(name, bytes).await.unwrap_err();
        assert_eq!(error.code, 0);
        assert!(error.text.contains(said), "{name}: {}", error.text);
    }
}

#[tokio::test]
async fn entries_count_once_they_are_written() {
    const ONE_LOG: &[u8] = b"\x0a\x02\x20\x05";
    let report = |caller: &Caller| {
        let caller = caller.clone();
        async move {
            let method = RpcMethod::ReportBoundaryLogs;
            caller.call(method, Bytes::from_static(ONE_LOG)).await
        }
    };
    let open = |path: &std::path::Path| {
        let to = BoundaryLogOutput::File(path.to_owned());
        BoundaryLog::open(&to, ControlMetrics::new().unwrap()).unwrap()
    };
    let without = caller(None);
    report(&without).await.unwrap();
    assert_eq!(without.service.metrics.acknowledged_logs(), 1);

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (log, _writer) = open(&path);
    let written = caller(Some(log));
    report(&written).await.unwrap();
    // Nothing is written of a request without entries, and it is accepted all the same.
    call(&written, "ReportBoundaryLogs", ()).await.unwrap();
    let content = std::fs::read_to_string(&path).unwrap();
    assert_eq!(content.lines().count(), 1, "{content}");
    assert_eq!(written.service.metrics.acknowledged_logs(), 1);

    let (full, _writer) = open("/dev/full".as_ref());
    let full = caller(Some(full));
    let error = report(&full).await.unwrap_err();
    assert!(error.text.contains("No space left"), "{}", error.text);
    assert_eq!(full.service.metrics.acknowledged_logs(), 0);
    let method = RpcMethod::ReportBoundaryLogs;
    assert_eq!(count(&full, method, RpcOutcome::Error), 1);
}
