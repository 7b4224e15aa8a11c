//! `cargo xtask page-check`: the page of `insession graph`, of ten thousand traces, in a
//! headless Chromium, by day and by night: when it is drawn, how smoothly it is dragged,
//! and pictures to look at.
//!
//! Not part of `cargo xtask test`: a browser is 300 MB, and its times are the machine's.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{build, command, paths, setup};

/// Options of `cargo xtask page-check`.
#[derive(clap::Args)]
pub struct Args {
    /// Traces to draw.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    traces: u32,
    /// The page is to be drawn in this time.
    #[arg(long, value_name = "MS", default_value_t = 1_000.0)]
    drawn: f64,
    /// Half of the frames are to come in this time.
    #[arg(long, value_name = "MS", default_value_t = 34.0)]
    frame: f64,
}

/// What a browser measured, milliseconds.
struct Measured {
    drawn: f64,
    /// Median, 95 % and most.
    frames: Vec<f64>,
}

const MEASURE: &str = include_str!("measure.js");

/// Runs it; an error where something takes too long.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure_for_pages()?;
    build::release()?;
    let folder = paths::target().join("page-check");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let (results, page) = (folder.join("traces.jsonl"), folder.join("paths.html"));
    write_traces(&results, args.traces)?;
    command::run(
        Command::new(paths::insession())
            .arg("graph")
            .arg(&results)
            .arg("-o")
            .arg(&page),
    )?;
    let text = fs::read_to_string(&page).context("the page cannot be read")?;
    let measuring = folder.join("measured.html");
    let script = format!("<script>{MEASURE}</script></body>");
    fs::write(&measuring, text.replace("</body>", &script))?;
    let mut wrong = Vec::new();
    println!("{} traces, {:.1} MB", args.traces, text.len() as f64 / 1e6);
    for (scheme, preferred) in [("dark", 0), ("light", 1)] {
        let picture = folder.join(format!("{scheme}.png"));
        let Measured { drawn, frames } = browse(&measuring, &picture, preferred)?;
        println!(
            "{scheme:6} drawn after {drawn:.0} ms; frames while it is dragged: {} ms (median, 95 %, most); {}",
            frames
                .iter()
                .map(f64::to_string)
                .collect::<Vec<_>>()
                .join(", "),
            picture.display()
        );
        if drawn > args.drawn {
            wrong.push(format!("{scheme}: drawn after {drawn} ms"));
        }
        if frames.first().is_none_or(|median| *median > args.frame) {
            wrong.push(format!("{scheme}: frames of {frames:?} ms"));
        }
    }
    if !wrong.is_empty() {
        bail!(
            "{}; is the machine busy? --drawn and --frame permit more",
            wrong.join("; ")
        );
    }
    Ok(())
}

/// Opens the page, waits until it has measured itself, takes its picture.
fn browse(page: &Path, picture: &Path, preferred: u8) -> Result<Measured> {
    let profile = page.with_extension("profile");
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-quic",
            // Whatever a page asks for, nothing is there.
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--window-size=1440,900",
            "--timeout=60000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--blink-settings=preferredColorScheme={preferred}"))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .context("chromium: cannot be started")?;
    let _ = fs::remove_dir_all(&profile);
    let dom = String::from_utf8_lossy(&output.stdout);
    let value = |name: &str| {
        let (_, rest) = dom.split_once(&format!("data-{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let missing = "the page did not measure itself; open it to see what is wrong";
    let drawn = value("drawn").context(missing)?;
    let frames = value("frames").context(missing)?;
    Ok(Measured {
        drawn: drawn.parse().context("drawn")?,
        frames: frames
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .context("frames")?,
    })
}

/// Traces as a campaign of three vantage points would have them: each to a target of its
/// own, through a network that grows finer with the distance, some hops silent.
fn write_traces(path: &Path, count: u32) -> Result<()> {
    let file = fs::File::create(path).with_context(|| path.display().to_string())?;
    let mut out = BufWriter::new(file);
    for nth in 0..count {
        out.write_all(trace(nth).as_bytes())?;
    }
    Ok(out.flush()?)
}

fn trace(nth: u32) -> String {
    // Whatever the same numbers give, in all runs.
    let mixed = |salt: u32, most: u32| {
        let mut value = nth.wrapping_mul(0x9e37_79b9) ^ salt.wrapping_mul(0x85eb_ca6b);
        value = (value ^ (value >> 15)).wrapping_mul(0x2c1b_3c6d);
        (value ^ (value >> 13)) % most
    };
    let stub = mixed(1, 1_200);
    let (source, region, core) = (nth % 3, stub % 40, stub % 6);
    let mut path = vec![
        format!("192.0.2.{}", 65 + source),
        format!("198.51.100.{}", 1 + source),
        format!("10.{core}.0.{}", mixed(2, 4)),
        format!("10.{core}.1.{}", mixed(2, 4) / 2),
        format!("10.{}.{region}.1", 20 + core),
        format!("10.40.{region}.{}", stub % 4),
        format!("10.{}.{}.1", 60 + stub / 250, stub % 250),
    ];
    if stub.is_multiple_of(3) {
        path.push(format!("10.{}.{}.2", 60 + stub / 250, stub % 250));
    }
    let target = format!("172.16.{}.{}", nth / 250, nth % 250);
    path.push(target.clone());
    let mut hops = String::new();
    for (ttl, from) in (1..).zip(&path) {
        let comma = if ttl > 1 { "," } else { "" };
        let kind = if *from == target {
            "sack"
        } else {
            "time-exceeded"
        };
        let is_silent = ttl > 2 && *from != target && mixed(90 + ttl, 17) == 0;
        let probe = match is_silent {
            true => r#"{"kind":"none","sent_us":1.0}"#.to_owned(),
            false => format!(
                r#"{{"kind":"{kind}","from":"{from}","name":null,"asn":{},"rtt_us":{}.5,"rtt_bound":"exact","sent_us":1.0,"icmp_type":null,"icmp_code":null,"reply_ttl":60,"quoted_ttl":null,"mpls":[],"rewrites":[]}}"#,
                64_500 + if ttl > 5 { 10 + region } else { core },
                700 * ttl + mixed(ttl, 900)
            ),
        };
        let _ = write!(hops, r#"{comma}{{"ttl":{ttl},"probes":[{probe}]}}"#);
    }
    let (minute, hour) = (nth / 60 % 60, nth / 3_600 % 24);
    format!(
        r#"{{"schema":"insession.trace/1","target":"{target}","address":"{target}","port":443,"method":"insession","source":"192.0.2.{}","source_port":61000,"started":"2026-01-02T{hour:02}:{minute:02}:{:02}.000000Z","duration_us":1.0,"verdict":"complete","detail":null,"handshake":null,"destination_ttl":{},"hops":[{hops}],"link":null}}"#,
        1 + source,
        nth % 60,
        path.len()
    ) + "\n"
}
