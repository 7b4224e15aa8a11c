//! Results as they might be, for tests of how they are shown.

use std::collections::BTreeMap;

use super::ablation;
use super::ceiling::{Ceiling, Ceilings};
use super::cpu::Accounting;
use super::held::Held;
use super::latency::{Latency, Mode};
use super::machine::Machine;
use super::opening::Opening;
use super::probes::Probes;
use super::scale::{Concurrent, Memory, Point, Scale};
use super::search::{Search, Step};
use super::smoothness;
use super::suite::{Conditions, Missing, Results};
use super::{Figure, trial::Outcome};

/// Everything once.
pub(super) fn results() -> Results {
    let machine = Machine {
        kernel: "6.18.0 #1 SMP".into(),
        cpu_model: "Model".into(),
        cores: 2,
        memory_mib: 2048,
        huge_pages_free: 0,
        virtual_machine: true,
        interface: Some("near0".into()),
        driver: Some("veth".into()),
        queues: Some(1),
        reflector: true,
        mode: Some("xdp native copy".into()),
        accounting: accounting(),
        versions: BTreeMap::from([("insession".into(), "0.1.0".into())]),
    };
    let conditions = Conditions {
        rounds: 3,
        duration: 1.0,
        max_rate: None,
        sessions: 1024,
        probes_a_hop: 3,
    };
    let mut results = Results::new(machine, conditions);
    results.ceiling = Some(ceilings());
    results.probes = Some(probes());
    results.search = Some(search());
    results.latency = Some(Latency {
        rate: 400_000.0,
        top_rate: 800_000.0,
        interrupts: mode(40.0),
        busy_polling: Some(mode(25.0)),
        cannot: None,
    });
    results.smoothness = Some(vec![smoothness::Held {
        rate: 10_000.0,
        probes: 9_300.0,
        windows: [(0.1, 0.93, 0, 3), (1.0, 9.3, 7, 12), (10.0, 93.0, 90, 97)]
            .map(|(millis, mean, least, most)| smoothness::Window {
                millis,
                mean,
                least,
                most,
            })
            .to_vec(),
    }]);
    results.opening = Some(Opening {
        link: "xdp native copy".into(),
        sessions: around(120_000.0),
        per_worker_second: around(125_000.0),
        per_cpu_second: around(90_000.0),
        lost: Figure::new([0.0; 3]),
    });
    results.held = Some(Held {
        link: "xdp native copy".into(),
        wanted: 200_000,
        sessions: Figure::new([200_000.0; 3]),
        octets: around(700.0),
        map_octets: 33_554_432,
        seconds: around(2.5),
    });
    results.ablation = Some(rows());
    results.scale = Some(scale());
    results.missing.push(Missing {
        measurement: "held",
        reason: "it was not tried".into(),
    });
    results
}

fn accounting() -> Accounting {
    Accounting {
        irq_time: Some(false),
        exact_split: Some(false),
        user: "a",
        system: "b",
        softirq: "c",
    }
}

fn around(value: f64) -> Figure {
    Figure::new([value, value * 0.95, value * 1.07])
}

fn mode(micros: f64) -> Mode {
    Mode {
        p50: around(micros),
        p99: around(micros * 3.0),
        p999: around(micros * 7.0),
        max: around(micros * 50.0),
        busy: around(0.8),
        loss: Figure::new([0.0; 3]),
    }
}

fn ceilings() -> Ceilings {
    let ceiling = |rate: f64, lost: &[f64]| Ceiling {
        frames: around(rate),
        cpu: around(1e9 / rate),
        user: around(60.0),
        busy: around(0.99),
        lost: Figure::new(lost.iter().copied()),
    };
    Ceilings {
        frame_octets: 67,
        batch: 64,
        link: "xdp native copy".into(),
        tx: ceiling(1_000_000.0, &[]),
        tx_answered: Some(ceiling(620_000.0, &[])),
        rx: Some(ceiling(640_000.0, &[0.0, 0.001, 0.0])),
        missing: None,
    }
}

fn probes() -> Probes {
    Probes {
        link: "xdp native copy".into(),
        probes: around(560_000.0),
        packets: around(600_000.0),
        ceiling: around(1_000_000.0),
        ceiling_unasked: around(2_500_000.0),
        ceiling_answered: around(620_000.0),
        tx_vs_ceiling: Figure::new([0.9, 0.88, 0.93]),
        packets_vs_ceiling: Figure::new([0.95, 0.93, 0.97]),
        packets_vs_ceiling_answered: Figure::new([0.97, 0.96, 0.98]),
        user: around(310.0),
        system: around(1_350.0),
        softirq: around(500.0),
        process: around(1_900.0),
        loss: Figure::new([0.0, 0.0001, 0.0]),
        traces_per_cpu_second: around(21_000.0),
        accounting: accounting(),
    }
}

fn search() -> Search {
    let step = |rate: f64, loss: f64| Step {
        offered: Some(rate),
        achieved: rate * 0.999,
        probes: rate * 0.93,
        loss,
        passed: loss <= 0.001,
        lost_at: vec![("xsk-rx-ring-full".into(), 17)],
    };
    Search {
        loss_bound: 0.001,
        resolution: 0.02,
        baseline: 0.0,
        packets: around(560_000.0),
        probes: around(521_000.0),
        loss: Figure::new([0.0, 0.0004, 0.0]),
        unbounded: around(640_000.0),
        unbounded_loss: around(0.02),
        link: "xdp native copy".into(),
        steps: vec![vec![
            step(640_000.0, 0.02),
            step(320_000.0, 0.0),
            step(480_000.0, 0.0),
            step(560_000.0, 0.0004),
            step(600_000.0, 0.004),
        ]],
    }
}

fn rows() -> Vec<ablation::Row> {
    let row = |choice: &str, value: &str, rate: f64| ablation::Row {
        choice: choice.into(),
        value: value.into(),
        default: value == "64",
        link: "xdp native copy".into(),
        probes: around(rate),
        cpu: around(1e9 / rate),
        loss: Figure::new([0.0; 3]),
        lost_at: Vec::new(),
        cannot: None,
    };
    vec![
        row("copying", "copy", 560_000.0),
        ablation::Row {
            choice: "copying".into(),
            value: "zero-copy".into(),
            cannot: Some("interface near0: zero-copy: not <here>".into()),
            ..ablation::Row::default()
        },
        row("batch", "1", 240_000.0),
        row("batch", "64", 560_000.0),
        row("socket", "AF_PACKET", 300_000.0),
    ]
}

fn scale() -> Scale {
    let point = |sessions: usize, nanos: f64| Point {
        sessions,
        cpu: around(nanos),
        link: around(160.0),
        probes: 2_000_000,
    };
    Scale {
        curve: vec![
            point(1, 420.0),
            point(100, 300.0),
            point(1_000, 305.0),
            point(10_000, 330.0),
            point(100_000, 410.0),
            point(1_000_000, 520.0),
        ],
        sim_scale: Some(1.7),
        memory: Some(Memory {
            sessions: 1_000_000,
            hops: 16,
            probes: 3,
            octets: 940.0,
            resident_before: 50_000_000,
            resident: 990_000_000,
        }),
        concurrent: Some(Concurrent {
            link: "xdp native copy".into(),
            peak: 100_000,
            outcome: Outcome {
                traces: 100_000,
                ..Outcome::default()
            },
            checked: true,
            counters: BTreeMap::new(),
        }),
        missing: Vec::new(),
    }
}
