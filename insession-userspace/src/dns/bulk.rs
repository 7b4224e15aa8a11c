//! Names of a long list, resolved beside the hot path: a bounded number at a time,
//! each name once while it is under way, failures remembered for a while.
//!
//! What was found is cached by the resolver, as long as the records may live.
//! Failures are cached here, as RFC 2308 §7 has it: a dead zone takes seconds a
//! name, and a list may have one ten thousand times.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Dns;

/// The address of a name, or why there is none: `WHAT: WHY; MEND`.
pub type Answer = Result<IpAddr, String>;

/// How a name is looked up.
pub(crate) type LookUp =
    dyn Fn(String) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync;

/// Look-ups under way at a time: a resolver of a site takes that, and a second of
/// patience with each makes 256 names a second.
const AT_A_TIME: usize = 256;
/// Questions that wait for an answer, however many of them ask for one name: some
/// 2 MiB.
const ASKED: usize = 8192;
/// Failures that are remembered, and how long (RFC 2308 §7.1 allows five minutes).
const FAILURES: usize = 16_384;
const REMEMBERED: Duration = Duration::from_secs(60);

/// Looks names up for those who ask, each with what it is to be told again: a `T`.
pub struct Bulk<T> {
    look_up: Arc<LookUp>,
    running: JoinSet<(String, Answer)>,
    /// Who waits for which name.
    asked: HashMap<String, Vec<T>>,
    count: usize,
    /// Names that wait for a look-up of another to end.
    waiting: VecDeque<String>,
    failures: HashMap<String, (Instant, String)>,
    /// Answered without a look-up.
    ready: Vec<(T, Answer)>,
}

impl<T> Bulk<T> {
    /// Names by `dns`.
    #[must_use]
    pub fn by_dns(dns: Arc<Dns>) -> Self {
        Self::by(Arc::new(move |name| {
            let dns = Arc::clone(&dns);
            Box::pin(async move { dns.address(&name).await })
        }))
    }

    pub(crate) fn by(look_up: Arc<LookUp>) -> Self {
        Bulk {
            look_up,
            running: JoinSet::new(),
            asked: HashMap::new(),
            count: 0,
            waiting: VecDeque::new(),
            failures: HashMap::new(),
            ready: Vec::new(),
        }
    }

    /// Whether more may be asked for.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.count < ASKED
    }

    /// Whether nobody waits for an answer.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.count == 0
    }

    /// Asks for a name. Within a runtime only.
    pub fn ask(&mut self, name: &str, who: T) {
        self.count += 1;
        // Names are alike whatever the case of their letters (RFC 4343).
        let name = name.to_ascii_lowercase();
        if let Some((until, reason)) = self.failures.get(&name) {
            if *until > Instant::now() {
                self.ready.push((who, Err(reason.clone())));
                return;
            }
            self.failures.remove(&name);
        }
        let asked = self.asked.entry(name.clone()).or_default();
        asked.push(who);
        if asked.len() == 1 {
            self.waiting.push_back(name);
            self.start();
        }
    }

    /// Those who have an answer, when some have; never, where nobody asked.
    /// Cancel-safe.
    pub async fn answered(&mut self) -> Vec<(T, Answer)> {
        if self.ready.is_empty() {
            let (name, answer) = match self.running.join_next().await {
                Some(Ok(done)) => done,
                Some(Err(error)) => {
                    // The resolver panicked, and whose look-up it was is not told.
                    self.fail_all(&format!("the resolver: {error}; report it"));
                    return self.take_ready();
                }
                None => return std::future::pending().await,
            };
            if let Err(reason) = &answer {
                self.remember(&name, reason);
            }
            let asked = self.asked.remove(&name).unwrap_or_default();
            self.ready
                .extend(asked.into_iter().map(|who| (who, answer.clone())));
            self.start();
        }
        self.take_ready()
    }

    fn take_ready(&mut self) -> Vec<(T, Answer)> {
        let ready = std::mem::take(&mut self.ready);
        self.count -= ready.len();
        ready
    }

    fn fail_all(&mut self, reason: &str) {
        self.running.abort_all();
        self.running = JoinSet::new();
        self.waiting.clear();
        let asked = std::mem::take(&mut self.asked).into_values().flatten();
        self.ready
            .extend(asked.map(|who| (who, Err(reason.to_owned()))));
    }

    fn remember(&mut self, name: &str, reason: &str) {
        if self.failures.len() >= FAILURES {
            let now = Instant::now();
            self.failures.retain(|_, (until, _)| *until > now);
        }
        if self.failures.len() >= FAILURES {
            self.failures.clear();
        }
        let until = Instant::now() + REMEMBERED;
        self.failures
            .insert(name.to_owned(), (until, reason.to_owned()));
    }

    fn start(&mut self) {
        while self.running.len() < AT_A_TIME {
            let Some(name) = self.waiting.pop_front() else {
                return;
            };
            let future = (self.look_up)(name.clone());
            self.running.spawn(async move { (name, future.await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Family;
    use super::super::testing::{Reply, Server};
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test);
    }

    async fn all<T>(bulk: &mut Bulk<T>) -> Vec<(T, Answer)> {
        let mut answers = Vec::new();
        while !bulk.is_idle() {
            answers.extend(bulk.answered().await);
        }
        answers
    }

    #[test]
    fn a_name_is_asked_for_once_while_it_is_under_way() {
        let server = Server::new(|name| match name {
            "good.example" => Reply::Address([192, 0, 2, 7].into()),
            "slow.example" => Reply::After(Duration::from_millis(300), [192, 0, 2, 8].into()),
            _ => Reply::NoName,
        });
        run(async {
            let dns = Arc::new(Dns::asking(&server, Family::V4));
            let mut bulk = Bulk::by_dns(dns);
            for nth in 0..100 {
                bulk.ask("slow.example", nth);
                bulk.ask(
                    if nth % 2 == 0 {
                        "good.example"
                    } else {
                        "GOOD.example"
                    },
                    100 + nth,
                );
                bulk.ask("dead.example", 200 + nth);
            }
            let answers = all(&mut bulk).await;
            assert_eq!(answers.len(), 300);
            for (who, answer) in &answers {
                let expected = match who {
                    0..100 => Ok([192, 0, 2, 8].into()),
                    100..200 => Ok([192, 0, 2, 7].into()),
                    _ => Err("dead.example: no such host; check the name".to_owned()),
                };
                assert_eq!(*answer, expected, "{who}");
            }
            // Quick ones do not wait for slow ones.
            assert!(answers[..200].iter().all(|(who, _)| *who >= 100));
            assert!(answers[200..].iter().all(|(who, _)| *who < 100));
            // Found or not, it is known now.
            for nth in 0..10 {
                bulk.ask("good.example", nth);
                bulk.ask("Dead.example", nth);
                assert_eq!(all(&mut bulk).await.len(), 2);
            }
        });
        let count = |name: &str| server.asked().iter().filter(|it| *it == name).count();
        for name in ["good.example", "slow.example", "dead.example"] {
            assert_eq!(count(name), 1, "{name} of {:?}", server.asked());
        }
    }

    #[test]
    fn look_ups_and_questions_are_bounded() {
        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let (now, peak) = (Arc::clone(&running), Arc::clone(&most));
        run(async move {
            let mut bulk = Bulk::by(Arc::new(move |name| {
                let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
                Box::pin(async move {
                    peak.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    now.fetch_sub(1, Ordering::Relaxed);
                    Err(name)
                })
            }));
            let mut answered = 0;
            for nth in 0..40_000_u32 {
                while !bulk.has_room() {
                    answered += bulk.answered().await.len();
                }
                bulk.ask(&format!("h{nth}.example"), nth);
                assert!(bulk.count <= ASKED && bulk.failures.len() <= FAILURES);
            }
            let last = all(&mut bulk).await;
            assert!(
                last.iter()
                    .all(|(nth, answer)| *answer == Err(format!("h{nth}.example")))
            );
            assert_eq!(answered + last.len(), 40_000);
        });
        assert_eq!(most.load(Ordering::Relaxed), AT_A_TIME);
    }

    #[test]
    fn a_resolver_that_panics_fails_those_who_wait() {
        run(async {
            let mut bulk = Bulk::by(Arc::new(|_| Box::pin(async { panic!("on purpose") })));
            bulk.ask("a.example", 1);
            bulk.ask("b.example", 2);
            let answers = all(&mut bulk).await;
            assert_eq!(answers.len(), 2);
            assert!(
                answers[0]
                    .1
                    .as_ref()
                    .unwrap_err()
                    .starts_with("the resolver: ")
            );
        });
    }
}
