//! Processor time, and exactly what of it.
//!
//! * **Of a thread**, `/proc/self/task/TID/schedstat` has its time on a processor
//!   in nanoseconds (`sum_exec_runtime`, kernel/sched/fair.c; needs
//!   CONFIG_SCHED_INFO); it lags by at most a tick while the thread runs. How it
//!   divides into user and system is only known by `utime` and `stime` of `stat`,
//!   which sampled ticks say, or exact counts where the kernel has
//!   CONFIG_VIRT_CPU_ACCOUNTING: `user` and `system` are the exact total, divided
//!   in that proportion. It is what getrusage(RUSAGE_THREAD) answers too
//!   (`cputime_adjust`, kernel/sched/cputime.c), and can be asked from outside.
//! * **Softirq** that runs on top of a thread (a send over veth runs the far
//!   end's receive path before it returns) is in that thread's time, in `system`,
//!   unless the kernel has CONFIG_IRQ_TIME_ACCOUNTING: then it is in neither.
//! * **Of the machine**, `/proc/stat` has user, system, irq and softirq of all
//!   processors. Its softirq is what was sampled, or with IRQ_TIME_ACCOUNTING
//!   counted, in softirqs of whomever: on a veth pair the far end's work too.
//!   Without IRQ_TIME_ACCOUNTING it overlaps with threads' `system`.
//!
//! [`Accounting`] says which of these this kernel does.

use std::fs;

use serde::Serialize;

use super::machine;

/// How this kernel accounts for processor time, as its configuration says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Accounting {
    /// CONFIG_IRQ_TIME_ACCOUNTING; null where the configuration is not to be read.
    pub irq_time: Option<bool>,
    /// CONFIG_VIRT_CPU_ACCOUNTING_GEN or _NATIVE.
    pub exact_split: Option<bool>,
    /// What `user` contains.
    pub user: &'static str,
    /// What `system` contains.
    pub system: &'static str,
    /// What `softirq` contains.
    pub softirq: &'static str,
}

impl Accounting {
    /// Of the running kernel.
    #[must_use]
    pub fn read() -> Self {
        Self::of(machine::kernel_config().as_deref())
    }

    fn of(config: Option<&str>) -> Self {
        let has = |option: &str| {
            config.map(|text| text.lines().any(|line| line == format!("{option}=y")))
        };
        let irq_time = has("CONFIG_IRQ_TIME_ACCOUNTING");
        let exact = [
            "CONFIG_VIRT_CPU_ACCOUNTING_GEN",
            "CONFIG_VIRT_CPU_ACCOUNTING_NATIVE",
        ]
        .map(has);
        let exact_split = exact[0]
            .zip(exact[1])
            .map(|(general, native)| general || native);
        Accounting {
            irq_time,
            exact_split,
            user: "time of the workers' threads outside of the kernel",
            system: match irq_time {
                Some(true) => "time of the workers' threads in the kernel, without softirqs",
                Some(false) => {
                    "time of the workers' threads in the kernel, with the softirqs that ran on top of them (over veth: the far end's answers)"
                }
                None => {
                    "time of the workers' threads in the kernel; whether softirqs on top of them are in it this kernel does not tell"
                }
            },
            softirq: match irq_time {
                Some(true) => "all processors' time in softirqs, whoever caused them",
                Some(false) => {
                    "all processors' time in softirqs by sampled ticks, whoever caused them; overlaps with system"
                }
                None => {
                    "all processors' time in softirqs, whoever caused them; may overlap with system"
                }
            },
        }
    }
}

/// Processor time, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spent {
    /// Outside of the kernel.
    pub user: f64,
    /// In the kernel, for it.
    pub system: f64,
}

impl Spent {
    /// Both.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.user + self.system
    }

    /// What was spent since `before`.
    #[must_use]
    pub fn since(&self, before: &Spent) -> Spent {
        Spent {
            user: (self.user - before.user).max(0.0),
            system: (self.system - before.system).max(0.0),
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(&self, other: &Spent) -> Spent {
        Spent {
            user: self.user + other.user,
            system: self.system + other.system,
        }
    }
}

/// A thread's clock reading: exact total, and the ticks that divide it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    exact: f64,
    user_ticks: f64,
    system_ticks: f64,
}

impl Reading {
    /// What was spent since `before`, divided by the ticks in between.
    #[must_use]
    pub fn since(&self, before: &Reading) -> Spent {
        let total = (self.exact - before.exact).max(0.0);
        let user = (self.user_ticks - before.user_ticks).max(0.0);
        let system = (self.system_ticks - before.system_ticks).max(0.0);
        let share = if user + system > 0.0 {
            user / (user + system)
        } else {
            // Less than a tick: nothing is known of the division.
            0.5
        };
        Spent {
            user: total * share,
            system: total * (1.0 - share),
        }
    }
}

/// A thread whose time can be asked for, by others too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread(String);

impl Thread {
    /// The calling one.
    #[must_use]
    pub fn current() -> Option<Self> {
        // A link to PID/task/TID.
        let link = fs::read_link("/proc/thread-self").ok()?;
        Some(Thread(format!("/proc/{}", link.to_str()?)))
    }

    /// Its time so far; `None` when it has ended.
    #[must_use]
    pub fn read(&self) -> Option<Reading> {
        let exact = fs::read_to_string(format!("{}/schedstat", self.0)).ok();
        let (user_ticks, system_ticks) =
            parse_stat(&fs::read_to_string(format!("{}/stat", self.0)).ok()?)?;
        let exact = exact
            .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok())
            // Without CONFIG_SCHED_INFO: the ticks.
            .map_or((user_ticks + system_ticks) / TICKS, |nanos| nanos / 1e9);
        Some(Reading {
            exact,
            user_ticks,
            system_ticks,
        })
    }
}

/// The whole process's time so far, ended threads included: a tick exact.
#[must_use]
pub fn process() -> Option<Spent> {
    let (user, system) = parse_stat(&fs::read_to_string("/proc/self/stat").ok()?)?;
    Some(Spent {
        user: user / TICKS,
        system: system / TICKS,
    })
}

/// Seconds that all processors spent in softirqs since boot.
#[must_use]
pub fn softirq() -> Option<f64> {
    parse_softirq(&fs::read_to_string("/proc/stat").ok()?)
}

/// The process's resident memory, octets, when the allocator has given back what it
/// kept: what earlier measurements freed would otherwise be used again unseen.
#[must_use]
pub fn resident_in_use() -> Option<u64> {
    crate::link::release_memory();
    resident()
}

/// The process's resident memory, octets.
#[must_use]
pub fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// What /proc counts in: USER_HZ is 100 on every architecture that insession
/// builds for (include/asm-generic/param.h).
const TICKS: f64 = 100.0;

/// `utime` and `stime`, ticks (proc_pid_stat(5)). The name in parentheses may
/// contain anything.
fn parse_stat(stat: &str) -> Option<(f64, f64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn parse_softirq(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: f64 = line.split_whitespace().nth(6)?.parse().ok()?;
    Some(ticks / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20 0 1 0 5";
        assert_eq!(parse_stat(stat), Some((120.0, 30.0)));
        assert_eq!(parse_stat("7 (a"), None);
        let stat = "cpu  10 0 20 30 4 5 250 7 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(parse_softirq(stat), Some(2.5));
    }

    #[test]
    fn ticks_divide_the_exact_total() {
        let before = Reading::default();
        let now = Reading {
            exact: 2.0,
            user_ticks: 30.0,
            system_ticks: 90.0,
        };
        let spent = now.since(&before);
        assert_eq!((spent.user, spent.system), (0.5, 1.5));
        assert_eq!(before.since(&now).total(), 0.0, "no time runs backwards");
    }

    #[test]
    fn a_thread_that_works_is_seen_by_another() {
        let thread = Thread::current().unwrap();
        let before = thread.read().unwrap();
        let mut sum = 0u64;
        let mut after = before;
        // Not the time: that some of it is seen at all.
        for round in 0..u64::from(u32::MAX) {
            sum = std::hint::black_box(sum.wrapping_mul(3) ^ round);
            if round % 1_000_000 == 0 {
                after = std::thread::scope(|scope| scope.spawn(|| thread.read()).join())
                    .unwrap()
                    .unwrap();
                if after.since(&before).total() > 0.02 {
                    break;
                }
            }
        }
        assert!(after.since(&before).total() > 0.02, "{sum}");
        assert!(resident() > Some(1 << 20) && process().is_some() && softirq().is_some());
    }

    #[test]
    fn the_kernel_says_what_its_columns_contain() {
        let with = Accounting::of(Some("CONFIG_IRQ_TIME_ACCOUNTING=y\n"));
        assert_eq!((with.irq_time, with.exact_split), (Some(true), Some(false)));
        let without = Accounting::of(Some("# CONFIG_IRQ_TIME_ACCOUNTING is not set\n"));
        assert_eq!(without.irq_time, Some(false));
        assert!(without.system.contains("with the softirqs"));
        assert_eq!(Accounting::of(None).irq_time, None);
    }
}
