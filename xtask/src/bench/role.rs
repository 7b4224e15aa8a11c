//! What this program does as a child of itself, so that its CPU time can be told
//! from that of whoever measures.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::network::Network;
use crate::{campaign, scanners};

/// As what.
#[derive(clap::Subcommand)]
pub enum Role {
    /// Run a command in a test bed, to try a peer by hand.
    Bed {
        /// Every reply is lost.
        #[arg(long)]
        deaf: bool,
        /// Nobody answers but to a SYN.
        #[arg(long, conflicts_with = "deaf")]
        quiet: bool,
        /// What to run: interface near0, targets 10.0.0.1 and on, port 80.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Trace so many targets against the reflector, killed and resumed in the middle.
    #[command(hide = true)]
    Campaign {
        /// How many.
        #[arg(long, default_value_t = 100_000)]
        targets: u32,
    },
    /// Trace a prefix through the network in memory; tell the peak of memory.
    #[command(hide = true)]
    Memory {
        /// Its length.
        #[arg(long, value_parser = clap::value_parser!(u8).range(8..=31))]
        length: u8,
        /// Sessions at a time.
        #[arg(long, default_value_t = 10_000)]
        sessions: usize,
    },
    /// Connect to that many targets of the bed and close each by RST.
    #[command(hide = true)]
    Connect {
        /// How many.
        #[arg(long)]
        count: u32,
        /// At a time.
        #[arg(long, default_value_t = 1000)]
        in_flight: usize,
    },
    /// Take what one connection sends; print how many bytes it was.
    #[command(hide = true)]
    Sink {
        /// Where to listen.
        #[arg(long)]
        address: SocketAddr,
    },
    /// Send for so many seconds.
    #[command(hide = true)]
    Source {
        /// To whom.
        #[arg(long)]
        address: SocketAddr,
        /// How long.
        #[arg(long)]
        seconds: u32,
    },
    /// Burn CPU for so many seconds.
    #[command(hide = true)]
    Burn {
        /// How long.
        #[arg(long)]
        seconds: u32,
    },
}

/// Does it.
pub fn run(role: &Role, built: &Path) -> Result<()> {
    match role {
        Role::Bed {
            deaf,
            quiet,
            command,
        } => bed(*deaf, *quiet, command),
        Role::Campaign { targets } => campaign::reflector(&std::path::absolute(built)?, *targets),
        Role::Memory { length, sessions } => campaign::memory(*length, *sessions),
        Role::Connect { count, in_flight } => connect(*count, *in_flight),
        Role::Sink { address } => sink(*address),
        Role::Source { address, seconds } => {
            source(*address, Duration::from_secs(u64::from(*seconds)))
        }
        Role::Burn { seconds } => {
            burn(Duration::from_secs(u64::from(*seconds)));
            Ok(())
        }
    }
}

fn bed(deaf: bool, quiet: bool, command: &[OsString]) -> Result<()> {
    let mut network = Network::new()?;
    if deaf {
        network.set(&scanners::deaf())?;
    } else if quiet {
        network.set(&scanners::quiet())?;
    }
    let (program, arguments) = command.split_first().context("no command")?;
    let status = Command::new(program)
        .args(arguments)
        .status()
        .with_context(|| program.display().to_string())?;
    for (name, count) in network.counted() {
        eprintln!("{name:24} {count}");
    }
    if !status.success() {
        bail!("{}: {status}", program.display());
    }
    Ok(())
}

fn connect(count: u32, in_flight: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("tokio's runtime")?;
    let mut targets = insession::testbed::targets(u64::from(count));
    let done = runtime.block_on(async {
        let mut tasks = JoinSet::new();
        let mut done = 0u64;
        loop {
            while tasks.len() < in_flight
                && let Some(target) = targets.next()
            {
                tasks.spawn(one(target));
            }
            match tasks.join_next().await {
                None => break done,
                Some(Ok(Ok(()))) => done += 1,
                Some(_) => {}
            }
        }
    });
    println!("{done}");
    Ok(())
}

async fn one(target: SocketAddr) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_zero_linger()?;
    drop(socket.connect(target).await?);
    Ok(())
}

/// A connection is worth waiting for this long.
const PATIENCE: Duration = Duration::from_secs(20);

fn sink(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| address.to_string())?;
    // Told to who starts us: from now on it can be connected to.
    println!("listening");
    listener.set_nonblocking(true).context("listener")?;
    let begin = Instant::now();
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if begin.elapsed() > PATIENCE {
                    bail!("{address}: nobody connected");
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error).context("accept"),
        }
    };
    stream.set_nonblocking(false).context("stream")?;
    stream.set_read_timeout(Some(PATIENCE)).context("stream")?;
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0u64;
    loop {
        match stream.read(&mut buffer).context("read")? {
            0 => break,
            read => bytes += read as u64,
        }
    }
    println!("{bytes}");
    Ok(())
}

fn source(address: SocketAddr, time: Duration) -> Result<()> {
    let mut stream =
        TcpStream::connect_timeout(&address, PATIENCE).with_context(|| address.to_string())?;
    stream.set_write_timeout(Some(PATIENCE)).context("stream")?;
    let buffer = vec![0x55; 1 << 17];
    let begin = Instant::now();
    let mut bytes = 0u64;
    while begin.elapsed() < time {
        bytes += stream.write(&buffer).context("write")? as u64;
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("{bytes} {seconds}");
    Ok(())
}

fn burn(time: Duration) {
    let begin = Instant::now();
    let mut value = 1u64;
    while begin.elapsed() < time {
        for _ in 0..10_000 {
            value = std::hint::black_box(
                value
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1),
            );
        }
    }
}
