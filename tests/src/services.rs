//! Real servers, each in its node's namespace, configured for the lab alone.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::lab::Lab;
use crate::topology::Service;

/// nginx opens its sockets within milliseconds; sshd reads its keys first.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Starts `service` at `node` and waits until it listens.
///
/// # Errors
/// When it does not start: with its log.
pub fn start(lab: &Lab, node: &str, service: &Service) -> Result<()> {
    let (name, port, mut command) = match service {
        Service::Nginx { port } => ("nginx", *port, nginx(lab, node, *port)?),
        Service::Sshd { port } => ("sshd", *port, sshd(lab, node, *port)?),
    };
    let log = lab.folder().join(format!("{node}-{name}-{port}.log"));
    let output = fs::File::create(&log).with_context(|| log.display().to_string())?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        // A signal from the terminal is not for it.
        .process_group(0);
    let mut child = lab
        .within(node, move || command.spawn())?
        .with_context(|| format!("{name}: cannot be started; `cargo xtask setup` installs it"))?;
    listening(&mut child, port).with_context(|| {
        format!(
            "{name} at {node}: {}",
            fs::read_to_string(&log).unwrap_or_default().trim()
        )
    })
}

/// Where nginx at `node` notes the requests it got.
#[must_use]
pub fn access_log(lab: &Lab, node: &str) -> std::path::PathBuf {
    lab.folder().join(format!("{node}-access.log"))
}

fn nginx(lab: &Lab, node: &str, port: u16) -> Result<Command> {
    let folder = lab.folder();
    let shown = folder.display();
    let access = access_log(lab, node);
    let access = access.display();
    // One process, so that nothing has to be waited for when it ends. Time-outs
    // longer than any trace: it must not be the server that closes.
    let configuration = format!(
        "daemon off;\nmaster_process off;\nworker_rlimit_nofile 65536;\n\
         pid {shown}/{node}-nginx-{port}.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 32768; }}\n\
         http {{\n  access_log {access};\n  client_header_timeout 600s;\n  server_tokens off;\n  \
         server {{\n    listen 0.0.0.0:{port} backlog=16384;\n    \
         listen [::]:{port} ipv6only=on backlog=16384;\n    \
         location = /status {{ stub_status; access_log off; }}\n    \
         location /files/ {{ alias {shown}/files/; }}\n    \
         location / {{ default_type text/plain; return 200 \"{node}\\n\"; }}\n  }}\n}}\n"
    );
    let path = folder.join(format!("{node}-nginx-{port}.conf"));
    fs::write(&path, configuration).with_context(|| path.display().to_string())?;
    let mut command = Command::new(program("nginx"));
    command
        .arg("-p")
        .arg(folder)
        .arg("-e")
        .arg("stderr")
        .arg("-c")
        .arg(&path);
    Ok(command)
}

fn sshd(lab: &Lab, node: &str, port: u16) -> Result<Command> {
    let folder = lab.folder();
    let key = folder.join(format!("{node}-ssh-key"));
    let made = crate::lab::quiet("ssh-keygen", &["-q", "-t", "ed25519", "-N", ""])
        .arg("-f")
        .arg(&key)
        .output()
        .context("ssh-keygen: cannot be started")?;
    if !made.status.success() {
        bail!(
            "ssh-keygen: {}",
            String::from_utf8_lossy(&made.stderr).trim()
        );
    }
    // The folder is seen as /mnt, see below.
    let common = format!(
        "Port {port}\nListenAddress 0.0.0.0\nListenAddress ::\nHostKey /mnt/{node}-ssh-key\n\
         UsePAM no\nUseDNS no\nPidFile none\nMaxStartups 10000\nLoginGraceTime 600\n"
    );
    fs::write(folder.join(format!("{node}-sshd.conf")), &common)?;
    // OpenSSH 9.8 shuts out who closes without a login; older ones do not know the word.
    fs::write(
        folder.join(format!("{node}-sshd-lenient.conf")),
        format!("{common}PerSourcePenalties no\n"),
    )?;
    // sshd wants /run/sshd for its unprivileged half, a path it has compiled in:
    // a /run of its own, in a mount namespace of its own.
    let script = "mount --bind \"$1\" /mnt && mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd \
        && if \"$2\" -t -f \"/mnt/$3-sshd-lenient.conf\" 2>/dev/null; \
        then exec \"$2\" -D -e -f \"/mnt/$3-sshd-lenient.conf\"; \
        else exec \"$2\" -D -e -f \"/mnt/$3-sshd.conf\"; fi";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(folder)
        // sshd executes itself again and wants to be called by its full path.
        .arg(program("sshd"))
        .arg(node);
    Ok(command)
}

/// The full path of a server; /usr/sbin is not on every user's path.
fn program(name: &str) -> String {
    ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/sbin"]
        .iter()
        .map(|folder| format!("{folder}/{name}"))
        .find(|path| Path::new(path).is_file())
        .unwrap_or_else(|| name.to_owned())
}

/// Waits until the child's namespace has a listener at `port`, IPv4 and IPv6.
fn listening(child: &mut Child, port: u16) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    let pid = child.id();
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("ended at once ({status})");
        }
        if listens(&format!("/proc/{pid}/net/tcp"), port)
            && listens(&format!("/proc/{pid}/net/tcp6"), port)
        {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!(
                "does not listen at port {port} within {} s",
                START_LIMIT.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a table of sockets has a listener (state 0A) at this port.
fn listens(table: &str, port: u16) -> bool {
    let end = format!(":{port:04X}");
    fs::read_to_string(table).is_ok_and(|text| {
        text.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().unwrap_or_default();
            let state = fields.nth(1).unwrap_or_default();
            local.ends_with(&end) && state == "0A"
        })
    })
}
