//! Results as sections of rows, and those as a table for a terminal.

use std::fmt::Write as _;

use super::Figure;
use super::latency::Mode;
use super::plot::{Bars, Lines, Plot};
use super::smoothness;
use super::suite::Results;

/// Rows that belong together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// What they are about.
    pub title: String,
    /// How to read them.
    pub notes: Vec<String>,
    /// The rows.
    pub rows: Vec<Row>,
    /// The same, seen.
    pub plots: Vec<Plot>,
}

/// A quantity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its rounds.
    pub figure: Figure,
    /// Its unit.
    pub unit: &'static str,
    /// What is to be said of it: why there is none.
    pub note: String,
}

impl Section {
    fn new(title: &str) -> Self {
        Section {
            title: title.to_owned(),
            ..Section::default()
        }
    }

    fn row(&mut self, name: impl Into<String>, figure: &Figure, unit: &'static str) -> &mut Row {
        self.rows.push(Row {
            name: name.into(),
            figure: figure.clone(),
            unit,
            note: String::new(),
        });
        let last = self.rows.len() - 1;
        &mut self.rows[last]
    }
}

/// A number as a reader wants it: three digits at least, thousands marked.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        0.0 => 0,
        _ if size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ if size >= 0.001 => 4,
        _ => return format!("{value:.1e}"),
    };
    let plain = format!("{value:.digits$}");
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let (sign, whole) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut marked = String::new();
    for (nth, digit) in whole.chars().enumerate() {
        if nth > 0 && (whole.len() - nth).is_multiple_of(3) {
            marked.push(',');
        }
        marked.push(digit);
    }
    let rest = rest.trim_end_matches('0').trim_end_matches('.');
    format!("{sign}{marked}{rest}")
}

/// The results in sections.
#[must_use]
pub fn sections(results: &Results) -> Vec<Section> {
    let all = [
        probes(results),
        ceiling(results),
        search(results),
        latency(results),
        smoothness(results),
        opening(results),
        held(results),
        ablation(results),
        scale(results),
    ];
    let mut sections: Vec<Section> = all.into_iter().flatten().collect();
    if !results.missing.is_empty() {
        let mut section = Section::new("Not measured");
        for missing in &results.missing {
            section
                .row(missing.measurement, &Figure::default(), "")
                .note
                .clone_from(&missing.reason);
        }
        sections.push(section);
    }
    sections
}

fn probes(results: &Results) -> Option<Section> {
    let probes = results.probes.as_ref()?;
    let mut section = Section::new("Probes with live sessions");
    section.row("probes", &probes.probes, "/s");
    section.row("packets", &probes.packets, "/s");
    section.row("bare TX ring, nothing answered", &probes.ceiling, "/s");
    section.row("bare link, nothing answered", &probes.ceiling_unasked, "/s");
    section.row("bare link, all answered", &probes.ceiling_answered, "/s");
    section.row("tx-vs-ceiling", &probes.tx_vs_ceiling, "");
    section.row("packets by bare link", &probes.packets_vs_ceiling, "");
    let answered = &probes.packets_vs_ceiling_answered;
    section.row("packets by bare link, all answered", answered, "");
    section.row("worker, user", &probes.user, "ns/probe");
    section.row("worker, system", &probes.system, "ns/probe");
    section.row("softirq, all processors", &probes.softirq, "ns/probe");
    section.row("whole process", &probes.process, "ns/probe");
    section.row("lost", &probes.loss, "part");
    section.row("traces", &probes.traces_per_cpu_second, "/worker second");
    let accounting = &probes.accounting;
    section.notes = vec![
        format!("User: {}.", accounting.user),
        format!("System: {}.", accounting.system),
        format!("Softirq: {}.", accounting.softirq),
    ];
    section.plots.push(Plot::Bars(Bars {
        title: "Processor time of a probe".to_owned(),
        unit: "ns".to_owned(),
        bars: vec![
            ("worker, user".to_owned(), probes.user.clone()),
            ("worker, system".to_owned(), probes.system.clone()),
            ("softirq, all processors".to_owned(), probes.softirq.clone()),
            ("whole process".to_owned(), probes.process.clone()),
        ],
    }));
    Some(section)
}

fn ceiling(results: &Results) -> Option<Section> {
    let ceilings = results.ceiling.as_ref()?;
    let mut section = Section::new("The bare link");
    section.notes.push(format!(
        "Frames of {} octets, {} a kick, no protocol ({}).",
        ceilings.frame_octets, ceilings.batch, ceilings.link
    ));
    let kinds = [
        ("sending", Some(&ceilings.tx)),
        ("sending, all answered", ceilings.tx_answered.as_ref()),
        ("receiving", ceilings.rx.as_ref()),
    ];
    for (name, ceiling) in kinds {
        let Some(ceiling) = ceiling else { continue };
        section.row(name, &ceiling.frames, "/s");
        section.row(format!("{name}, time"), &ceiling.cpu, "ns/frame");
        section.row(format!("{name}, of that user"), &ceiling.user, "ns/frame");
        section.row(format!("{name}, awake"), &ceiling.busy, "part");
        if !ceiling.lost.rounds.is_empty() {
            section.row(format!("{name}, lost"), &ceiling.lost, "part");
        }
    }
    section.notes.extend(ceilings.missing.clone());
    Some(section)
}

fn search(results: &Results) -> Option<Section> {
    let search = results.search.as_ref()?;
    let mut section = Section::new("Highest rate without loss");
    section.notes.push(format!(
        "At most {} lost beyond {} that is silent at any rate; to {} of the rate ({}).",
        number(search.loss_bound),
        number(search.baseline),
        number(search.resolution),
        search.link
    ));
    section.row("packets", &search.packets, "/s");
    section.row("probes", &search.probes, "/s");
    section.row("lost at it", &search.loss, "part");
    section.row("packets, nothing held back", &search.unbounded, "/s");
    section.row("lost then", &search.unbounded_loss, "part");
    let steps = || search.steps.iter().flatten();
    let mut places: Vec<(String, u64)> = Vec::new();
    for (label, count) in steps().flat_map(|step| &step.lost_at) {
        match places.iter_mut().find(|(known, _)| known == label) {
            Some((_, sum)) => *sum += count,
            None => places.push((label.clone(), *count)),
        }
    }
    if !places.is_empty() {
        let words: Vec<String> = places
            .iter()
            .map(|(label, count)| format!("{label} {count}"))
            .collect();
        section
            .notes
            .push(format!("Counters of all its trials: {}.", words.join(", ")));
    }
    let of = |passed: bool| {
        let chosen = steps().filter(move |step| step.passed == passed);
        chosen
            .map(|step| (step.achieved, step.loss * 100.0))
            .collect()
    };
    section.plots.push(Plot::Lines(Lines {
        title: "Trials of the search".to_owned(),
        x: "packets/s sent".to_owned(),
        y: "lost, %".to_owned(),
        series: vec![
            ("passed".to_owned(), of(true)),
            ("failed: lost more, or not offered".to_owned(), of(false)),
        ],
        scatter: true,
        ..Lines::default()
    }));
    Some(section)
}

fn latency(results: &Results) -> Option<Section> {
    let latency = results.latency.as_ref()?;
    let mut section = Section::new("From wire to session");
    section.notes.push(format!(
        "From the kernel's stamp to the end of what the session made of the frame, at {} packets/s, half of {}.",
        number(latency.rate),
        number(latency.top_rate)
    ));
    let mut bars = Bars {
        title: "Wire to session".to_owned(),
        unit: "µs".to_owned(),
        bars: Vec::new(),
    };
    let mut mode = |name: &str, mode: &Mode| {
        for (quantile, figure) in [
            ("p50", &mode.p50),
            ("p99", &mode.p99),
            ("p99.9", &mode.p999),
            ("max", &mode.max),
        ] {
            section.row(format!("{name}, {quantile}"), figure, "µs");
            if quantile != "max" {
                bars.bars
                    .push((format!("{name}, {quantile}"), figure.clone()));
            }
        }
        section.row(format!("{name}, worker awake"), &mode.busy, "part");
        section.row(format!("{name}, lost"), &mode.loss, "part");
    };
    mode("interrupts", &latency.interrupts);
    if let Some(polling) = &latency.busy_polling {
        mode("busy polling", polling);
    }
    if let Some(reason) = &latency.cannot {
        section
            .row("busy polling", &Figure::default(), "")
            .note
            .clone_from(reason);
    }
    section.plots.push(Plot::Bars(bars));
    Some(section)
}

fn smoothness(results: &Results) -> Option<Section> {
    let held = results.smoothness.as_ref()?;
    let mut section = Section::new("Smoothness of a rate");
    section.notes.push(
        "Probes that left in any window of a length: median is the mean, beside the fewest and the most."
            .to_owned(),
    );
    let mut lines = Lines {
        title: "Fewest and most probes in any window, by the mean".to_owned(),
        x: "window, ms".to_owned(),
        y: "probes / mean".to_owned(),
        log_x: true,
        ..Lines::default()
    };
    for held in held {
        for window in &held.windows {
            let name = format!("{}/s, {} ms", number(held.rate), number(window.millis));
            let figure = Figure {
                median: Some(window.mean),
                min: Some(window.least as f64),
                max: Some(window.most as f64),
                rounds: Vec::new(),
            };
            section.row(name, &figure, "probes");
        }
        for (what, count) in [
            (
                "most",
                (|window| window.most) as fn(&smoothness::Window) -> u64,
            ),
            ("fewest", |window| window.least),
        ] {
            let points = held.windows.iter();
            let points = points.map(|window| (window.millis, count(window) as f64 / window.mean));
            let name = format!("{}/s, {what}", number(held.rate));
            lines.series.push((name, points.collect()));
        }
    }
    section.plots.push(Plot::Lines(lines));
    Some(section)
}

fn opening(results: &Results) -> Option<Section> {
    let opening = results.opening.as_ref()?;
    let mut section = Section::new("Sessions opened");
    section
        .notes
        .push(format!("SYN, ACK, one probe, RST ({}).", opening.link));
    section.row("sessions", &opening.sessions, "/s");
    section.row("sessions", &opening.per_worker_second, "/worker second");
    section.row("sessions", &opening.per_cpu_second, "/CPU second");
    section.row("handshakes lost", &opening.lost, "part");
    Some(section)
}

fn held(results: &Results) -> Option<Section> {
    let held = results.held.as_ref()?;
    let mut section = Section::new("Sessions held");
    section.notes.push(format!(
        "{} were asked for ({}). The kernel's maps are not in the memory a session.",
        number(held.wanted as f64),
        held.link
    ));
    section.row("open at once", &held.sessions, "");
    section.row("memory", &held.octets, "octets/session");
    let maps = Figure::new([held.map_octets as f64 / 1048576.0]);
    section.row("the kernel's maps", &maps, "MiB");
    section.row("until nearly all were open", &held.seconds, "s");
    Some(section)
}

fn ablation(results: &Results) -> Option<Section> {
    let rows = results.ablation.as_ref()?;
    let mut section = Section::new("What each choice is worth");
    section
        .notes
        .push("One changed at a time; * is what everything else is measured with.".to_owned());
    let mut bars = Vec::new();
    for row in rows {
        let star = if row.default { " *" } else { "" };
        let name = format!("{} {}{star}", row.choice, row.value);
        let note = match &row.cannot {
            Some(reason) => reason.clone(),
            None => {
                let cpu = row.cpu.median.map_or("-".to_owned(), number);
                let loss = row.loss.median.map_or("-".to_owned(), number);
                format!("{cpu} ns/probe, lost {loss}; {}", row.link)
            }
        };
        section.row(name.clone(), &row.probes, "probes/s").note = note;
        bars.push((name, row.probes.clone()));
    }
    section.plots.push(Plot::Bars(Bars {
        title: "Probes by choice".to_owned(),
        unit: "probes/s".to_owned(),
        bars,
    }));
    Some(section)
}

fn scale(results: &Results) -> Option<Section> {
    let scale = results.scale.as_ref()?;
    let mut section = Section::new("Over the number of sessions");
    section.notes.push(
        "In memory, virtual time: the worker's time less the link's own (flush and wait)."
            .to_owned(),
    );
    for point in &scale.curve {
        let name = format!("{} sessions", number(point.sessions as f64));
        let link = point.link.median.map_or("-".to_owned(), number);
        section.row(name, &point.cpu, "ns/probe").note = format!("the link's own: {link}");
    }
    if let Some(ratio) = scale.sim_scale {
        section.row("sim-scale", &Figure::new([ratio]), "");
    }
    if let Some(memory) = &scale.memory {
        section
            .row("bytes-per-session", &Figure::new([memory.octets]), "octets")
            .note = format!(
            "{} live sessions, {} hops x {} probes, without the link's table",
            number(memory.sessions as f64),
            memory.hops,
            memory.probes
        );
    }
    if let Some(concurrent) = &scale.concurrent {
        let outcome = &concurrent.outcome;
        let peak = Figure::new([concurrent.peak as f64]);
        section.row("at once, reflector", &peak, "").note = format!(
            "{} records, {} wrong{}{}",
            number(outcome.traces as f64),
            outcome.wrong,
            if concurrent.checked {
                ", every hop checked"
            } else {
                ", not checked"
            },
            outcome
                .first_wrong
                .as_ref()
                .map_or(String::new(), |wrong| format!(": {wrong}")),
        );
    }
    section.notes.extend(scale.missing.clone());
    let line = |value: fn(&super::scale::Point) -> &Figure| {
        let points = scale.curve.iter();
        points
            .filter_map(|point| Some((point.sessions as f64, value(point).median?)))
            .collect()
    };
    section.plots.push(Plot::Lines(Lines {
        title: "Processor time of a probe".to_owned(),
        x: "sessions at once".to_owned(),
        y: "ns".to_owned(),
        log_x: true,
        series: vec![
            ("engine".to_owned(), line(|point| &point.cpu)),
            (
                "link in memory (not counted)".to_owned(),
                line(|point| &point.link),
            ),
        ],
        ..Lines::default()
    }));
    Some(section)
}

/// The results as a table for a terminal.
#[must_use]
pub fn table(results: &Results) -> String {
    let mut out = String::new();
    for (name, value) in machine(results) {
        let _ = writeln!(out, "{name:<12}{value}");
    }
    for section in sections(results) {
        let _ = writeln!(out, "\n{}", section.title);
        out.push_str(&aligned(&section.rows));
        for note in &section.notes {
            let _ = writeln!(out, "  {note}");
        }
    }
    if results.interrupted {
        out.push_str("\nEnded before it was complete.\n");
    }
    out
}

/// What it was measured on, in words.
#[must_use]
pub fn machine(results: &Results) -> Vec<(&'static str, String)> {
    let machine = &results.machine;
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    let virtual_machine = if machine.virtual_machine {
        ", virtual"
    } else {
        ""
    };
    vec![
        ("kernel", machine.kernel.clone()),
        (
            "processor",
            format!("{} x {}{virtual_machine}", machine.cores, machine.cpu_model),
        ),
        (
            "interface",
            format!(
                "{}, driver {}, {} queue(s){}",
                or_none(&machine.interface),
                or_none(&machine.driver),
                machine.queues.unwrap_or(0),
                if machine.reflector {
                    ", reflector at the far end"
                } else {
                    ""
                }
            ),
        ),
        ("link", or_none(&machine.mode)),
        (
            "insession",
            machine
                .versions
                .iter()
                .map(|(name, version)| format!("{name} {version}"))
                .collect::<Vec<_>>()
                .join(", "),
        ),
        (
            "rounds",
            format!(
                "{} of {} s each; {} sessions at a time, {} probes a hop",
                results.conditions.rounds,
                number(results.conditions.duration),
                number(results.conditions.sessions as f64),
                results.conditions.probes_a_hop
            ),
        ),
    ]
}

/// Columns: name, median, least, most, unit, note. Numbers to the right.
fn aligned(rows: &[Row]) -> String {
    let cells: Vec<[String; 4]> = rows
        .iter()
        .map(|row| {
            let value = |value: Option<f64>| value.map_or("-".to_owned(), number);
            let figure = &row.figure;
            [
                row.name.clone(),
                value(figure.median),
                value(figure.min),
                value(figure.max),
            ]
        })
        .collect();
    let heads = ["", "median", "least", "most"];
    let width = |column: usize| {
        let longest = cells
            .iter()
            .map(|cells| cells[column].chars().count())
            .max();
        longest.unwrap_or(0).max(heads[column].len())
    };
    let widths = [0, 1, 2, 3].map(width);
    let unit = rows
        .iter()
        .map(|row| row.unit.chars().count())
        .max()
        .unwrap_or(0);
    let mut out = String::new();
    let mut line = |[name, median, least, most]: [&str; 4], unit_text: &str, note: &str| {
        let text = format!(
            "  {name:<0$}  {median:>1$}  {least:>2$}  {most:>3$}  {unit_text:<unit$}  {note}",
            widths[0], widths[1], widths[2], widths[3],
        );
        let _ = writeln!(out, "{}", text.trim_end());
    };
    line(heads, "", "");
    for (row, cells) in rows.iter().zip(&cells) {
        line(
            [&cells[0], &cells[1], &cells[2], &cells[3]],
            row.unit,
            &row.note,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_marked() {
        for (value, text) in [
            (0.0, "0"),
            (1234567.4, "1,234,567"),
            (999.6, "1,000"),
            (-1234.0, "-1,234"),
            (12.34, "12.3"),
            (2.0, "2"),
            (0.95, "0.95"),
            (0.00001, "1.0e-5"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [
            Row {
                name: "probes".into(),
                figure: Figure::new([1000.0, 2000.0, 30000.0]),
                unit: "/s",
                note: String::new(),
            },
            Row {
                name: "µs, p99".into(),
                unit: "µs",
                note: "no".into(),
                ..Row::default()
            },
        ];
        assert_eq!(
            aligned(&rows),
            "           median  least    most\n\
             \x20 probes    2,000  1,000  30,000  /s\n\
             \x20 µs, p99       -      -       -  µs  no\n"
        );
    }
}
