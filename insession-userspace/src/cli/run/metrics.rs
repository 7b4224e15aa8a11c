//! `--metrics`: what Prometheus reads, and `/healthz`. Nothing is counted for it that
//! is not counted anyway: a scrape reads the run's account.

use std::fmt::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::bench::cpu;
use crate::campaign::account::{Account, Moment};
use crate::campaign::observed::{BOUNDS, Distribution};
use crate::cli::exit::Failure;

/// The media type of the text that is written (OpenMetrics 1.0).
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves metrics from now on, until the runtime ends. Gives the address back: its
/// port is chosen where 0 was asked for.
///
/// # Errors
/// When nobody can listen there.
pub async fn serve(address: SocketAddr, account: Arc<Account>) -> Result<SocketAddr, Failure> {
    let trouble = |error: std::io::Error| {
        Failure::usage(format!(
            "--metrics {address}: {error}; name an address of this host and a free port"
        ))
    };
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(trouble)?;
    let bound = listener.local_addr().map_err(trouble)?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .with_state(account);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "metrics are served no more");
        }
    });
    Ok(bound)
}

async fn metrics(State(account): State<Arc<Account>>) -> impl IntoResponse {
    match text(account) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, TEXT)], text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain")],
            error.to_string(),
        ),
    }
}

async fn health(State(account): State<Arc<Account>>) -> impl IntoResponse {
    match account.room.is_short() {
        false => (StatusCode::OK, "ok\n"),
        true => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the disk is full: the run pauses until there is room\n",
        ),
    }
}

fn text(account: Arc<Account>) -> Result<String, Error> {
    let mut registry = Registry::with_prefix("insession");
    registry.register_collector(Box::new(Scrape(account)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// The account, as the library reads it.
#[derive(Debug)]
struct Scrape(Arc<Account>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let now = self.0.moment();
        let mut info = encoder.encode_descriptor("build", "The program", None, MetricType::Info)?;
        info.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        counters(&now, &mut encoder)?;
        gauges(&now, &mut encoder)?;
        let help = "Finished targets of this run, by verdict";
        let mut family =
            encoder.encode_descriptor("targets_finished", help, None, MetricType::Counter)?;
        for (verdict, count) in now.seen.by_verdict() {
            family
                .encode_family(&[("verdict", verdict.as_str())])?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let help = "What was lost on this host, by cause";
        let mut family = encoder.encode_descriptor("drops", help, None, MetricType::Counter)?;
        for (cause, count) in &now.drops {
            family
                .encode_family(&[("cause", *cause)])?
                .encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        let help = "The links' own counters: where the XDP program sent packets, and the \
                    kernel's of the AF_XDP sockets";
        let mut family =
            encoder.encode_descriptor("link_packets", help, None, MetricType::Counter)?;
        for (label, count) in &now.link {
            family
                .encode_family(&[("counter", *label)])?
                .encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        for (name, help, spans) in [
            ("handshake", "SYN to SYN-ACK", &now.seen.handshakes),
            ("probe_rtt", "Probe to reply", &now.seen.round_trips),
            ("session", "First segment to verdict", &now.seen.sessions),
        ] {
            histogram(name, help, spans, &mut encoder)?;
        }
        Ok(())
    }
}

fn counters(now: &Moment, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    for (name, help, value) in [
        ("packets_sent", "Packets sent", now.sent),
        ("probes_sent", "Probes sent", now.probes),
        ("replies", "Replies that belong to a session", now.replies),
        (
            "probes_recorded",
            "Probes in records of finished targets",
            now.seen.probes,
        ),
        (
            "probes_answered",
            "Of them, those answered",
            now.seen.answered,
        ),
        (
            "probes_saved",
            "Probes not sent because near hops are shared",
            now.saved,
        ),
        (
            "router_slowdowns",
            "Times that a TTL was slowed down for its routers",
            now.slowed,
        ),
        ("bad_lines", "Lines that are no targets", now.bad_lines),
    ] {
        encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
    }
    Ok(())
}

fn gauges(now: &Moment, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: u64| {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        encoder
            .encode_descriptor(name, help, unit, MetricType::Gauge)?
            .encode_gauge(&value)
    };
    gauge(
        "targets_done",
        "Targets that have their record, earlier runs' too",
        None,
        now.done,
    )?;
    // How many there are is not known before the lists are counted.
    if let (Some(total), Some(left)) = (now.total, now.left()) {
        gauge("targets", "Targets of all lists", None, total)?;
        gauge(
            "targets_left",
            "Targets that have no record yet",
            None,
            left,
        )?;
    }
    gauge("sessions_open", "Sessions open", None, now.open)?;
    gauge(
        "connections_established",
        "Connections established",
        None,
        now.established,
    )?;
    gauge(
        "paused",
        "1 while writing waits for room on the disk",
        None,
        now.is_paused.into(),
    )?;
    gauge(
        "uptime",
        "Since the run began",
        Some(&Unit::Seconds),
        now.elapsed.as_secs(),
    )?;
    if let Some(resident) = cpu::resident() {
        gauge(
            "resident_memory",
            "Resident memory",
            Some(&Unit::Bytes),
            resident,
        )?;
    }
    Ok(())
}

fn histogram(
    name: &str,
    help: &str,
    spans: &Distribution,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), Error> {
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    let bounds = BOUNDS.iter().map(|bound| seconds(*bound)).chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(spans.counts).collect();
    encoder
        .encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(seconds(spans.sum), spans.count(), &buckets, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::observed::Seen;
    use crate::report::samples;
    use std::sync::atomic::Ordering;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn account() -> Arc<Account> {
        let account = Account::new(Arc::default(), 7);
        account.bad_lines.store(3, Ordering::Relaxed);
        *account.stats.link.lock().unwrap() = vec![("segment", 5), ("xsk-rx-dropped", 2)];
        let mut seen = Seen::default();
        for trace in samples::every_verdict() {
            seen.note(&trace);
        }
        seen.note(&samples::contract());
        account.observed.publish(&mut seen);
        let _ = account.total.set(100);
        Arc::new(account)
    }

    #[test]
    fn names_follow_the_conventions_and_every_histogram_is_cumulative() {
        let text = text(account()).unwrap();
        for line in [
            "insession_build_info{version=\"0.1.0\"} 1",
            "insession_targets_finished_total{verdict=\"refused\"} 1",
            "insession_drops_total{cause=\"xsk-rx-dropped\"} 2",
            "insession_link_packets_total{counter=\"segment\"} 5",
            "insession_bad_lines_total 3",
            "insession_targets_done 21",
            "insession_targets_left 79",
            "# TYPE insession_probe_rtt_seconds histogram",
            "# UNIT insession_uptime_seconds seconds",
            "# EOF",
        ] {
            assert!(text.lines().any(|it| it == line), "{line:?} in {text}");
        }
        for name in ["handshake", "probe_rtt", "session"] {
            let head = format!("insession_{name}_seconds_bucket{{le=");
            let counts: Vec<u64> = text
                .lines()
                .filter(|line| line.starts_with(&head))
                .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
                .collect();
            assert_eq!(counts.len(), BOUNDS.len() + 1, "{text}");
            assert!(counts.is_sorted() && counts.last() > Some(&0), "{counts:?}");
        }
    }

    #[test]
    fn they_are_served_where_it_was_asked_for() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let account = account();
            let any = "127.0.0.1:0".parse().unwrap();
            let address = serve(any, Arc::clone(&account)).await.unwrap();
            let ask = async |path: &str| {
                let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                let request =
                    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                answer
            };
            assert!(ask("/metrics").await.contains("insession_targets 100"));
            assert!(ask("/healthz").await.starts_with("HTTP/1.1 200"));
            assert!(ask("/else").await.starts_with("HTTP/1.1 404"));
            let taken = serve(address, account).await.unwrap_err();
            assert_eq!(taken.code, 2);
            assert!(
                taken.message.starts_with("--metrics 127.0.0.1:"),
                "{taken:?}"
            );
        });
    }
}
