//! Targets that go on by another method, as no session could be opened
//! (`--on-handshake-failure`).

use crate::session::SessionReport;
use crate::trace::Verdict;

use super::jobs::Job;

/// One of them.
#[derive(Debug)]
pub(super) struct Again {
    pub(super) job: Job,
    /// Why there was no session.
    pub(super) why: String,
}

/// Why there was no session, where that is what ended this one: a target that has
/// shown no hop.
pub(super) fn why(report: &SessionReport) -> Option<String> {
    let failed = matches!(
        report.verdict,
        Verdict::HandshakeTimeout | Verdict::Refused | Verdict::Unreachable
    );
    let none = report.method.is_in_session()
        && report.handshake.is_none()
        && report.hops.iter().all(|hop| hop.probes.is_empty());
    (failed && none).then(|| {
        let verdict = report.verdict.as_str();
        match &report.detail {
            Some(detail) => format!("no session: {verdict}, {detail}"),
            None => format!("no session: {verdict}"),
        }
    })
}
