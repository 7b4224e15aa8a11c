//! Names and addresses: the system's resolver configuration and hosts file.
//!
//! Where there is no resolver configuration (a bare network namespace), the
//! hosts file alone is asked, and every answer is there at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, ResolverBuilder, TokioResolver};

pub mod bulk;
pub mod names;
#[cfg(test)]
pub(crate) mod testing;

/// Which addresses of a name are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// IPv4, else IPv6, as traceroute does.
    Any,
}

/// What came of a reverse look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reverse {
    /// The name.
    Named(String),
    /// There is none.
    Nameless,
    /// Nobody answered within the time.
    Silent,
    /// No name came of it, at once: a server that refuses or fails (of one zone,
    /// perhaps), an error of the network.
    Failed,
}

/// Names and addresses.
pub struct Dns {
    family: Family,
    hosts: Arc<Hosts>,
    /// Or why there is none.
    resolver: Result<TokioResolver, String>,
}

/// A server gets this long to answer, and is asked once more after it: a target
/// list with dead zones must not hold the rest up for long.
const PATIENCE: Duration = Duration::from_secs(3);
const ATTEMPTS: usize = 2;
/// Several servers, both families and the search list multiply that.
const ALTOGETHER: Duration = Duration::from_secs(8);
/// Answers that the resolver keeps, as long as they may live: some 25 MiB.
const CACHED: u64 = 16_384;

impl Dns {
    /// As the system is configured.
    #[must_use]
    pub fn from_system(family: Family) -> Self {
        let hosts = Arc::new(Hosts::from_system().unwrap_or_default());
        let resolver =
            TokioResolver::builder_tokio().and_then(|builder| resolver(builder, family, &hosts));
        Dns {
            family,
            hosts,
            resolver: resolver.map_err(|error| plain(&error)),
        }
    }

    /// The address of `host`.
    ///
    /// # Errors
    /// `WHAT: WHY; MEND`, as it goes into the record.
    pub async fn address(&self, host: &str) -> Result<IpAddr, String> {
        let resolver = match &self.resolver {
            Ok(resolver) => resolver,
            Err(reason) => {
                return self.address_in_hosts(host).ok_or_else(|| {
                    format!(
                        "{host}: not in /etc/hosts, and no name server is configured ({reason}); \
                         mend /etc/resolv.conf or give an address"
                    )
                });
            }
        };
        let found = tokio::time::timeout(ALTOGETHER, resolver.lookup_ip(host)).await;
        match found.unwrap_or(Err(NetError::Timeout)) {
            Ok(found) => found
                .iter()
                .find(|address| self.wanted(*address))
                .ok_or_else(|| self.no_address(host)),
            Err(error) if error.is_nx_domain() => {
                Err(format!("{host}: no such host; check the name"))
            }
            Err(error) if error.is_no_records_found() => Err(self.no_address(host)),
            Err(NetError::Timeout) => Err(format!(
                "{host}: no name server answered; check /etc/resolv.conf, or give an address"
            )),
            Err(error) => Err(format!(
                "{host}: not resolved ({}); check /etc/resolv.conf, or give an address",
                plain(&error)
            )),
        }
    }

    /// The name of `address`.
    pub async fn name(&self, address: IpAddr) -> Reverse {
        let arpa = Name::from(address);
        let query = Query::query(arpa.clone(), RecordType::PTR);
        if let Some(name) = self
            .hosts
            .lookup_static_host(&query)
            .as_ref()
            .and_then(first_name)
        {
            return Reverse::Named(name);
        }
        let Ok(resolver) = &self.resolver else {
            return Reverse::Nameless;
        };
        match resolver.lookup(arpa, RecordType::PTR).await {
            Ok(found) => first_name(&found).map_or(Reverse::Nameless, Reverse::Named),
            Err(error) if error.is_no_records_found() => Reverse::Nameless,
            Err(NetError::Timeout) => Reverse::Silent,
            Err(error) => {
                tracing::debug!(%address, error = plain(&error), "no name");
                Reverse::Failed
            }
        }
    }

    fn wanted(&self, address: IpAddr) -> bool {
        match self.family {
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
            Family::Any => true,
        }
    }

    fn no_address(&self, host: &str) -> String {
        match self.family {
            Family::V4 => format!("{host}: it has no IPv4 address; try -6"),
            Family::V6 => format!("{host}: it has no IPv6 address; try -4"),
            Family::Any => format!("{host}: it has no address; check the name"),
        }
    }

    fn address_in_hosts(&self, host: &str) -> Option<IpAddr> {
        let name = Name::from_utf8(host).ok()?;
        let look = |kind| {
            let found = self
                .hosts
                .lookup_static_host(&Query::query(name.clone(), kind))?;
            found
                .answers()
                .iter()
                .find_map(|record| record.data.ip_addr())
        };
        match self.family {
            Family::V4 => look(RecordType::A),
            Family::V6 => look(RecordType::AAAA),
            Family::Any => look(RecordType::A).or_else(|| look(RecordType::AAAA)),
        }
    }
}

/// The resolver, with our bounds.
fn resolver(
    mut builder: ResolverBuilder<TokioRuntimeProvider>,
    family: Family,
    hosts: &Arc<Hosts>,
) -> Result<TokioResolver, NetError> {
    let options = builder.options_mut();
    options.ip_strategy = match family {
        Family::V4 => LookupIpStrategy::Ipv4Only,
        Family::V6 => LookupIpStrategy::Ipv6Only,
        Family::Any => LookupIpStrategy::Ipv4thenIpv6,
    };
    options.timeout = options.timeout.min(PATIENCE);
    options.attempts = options.attempts.min(ATTEMPTS);
    options.cache_size = CACHED;
    let mut resolver = builder.build()?;
    resolver.set_hosts(Arc::clone(hosts));
    Ok(resolver)
}

/// The first name of a reverse look-up. `Name` displays bytes that are no
/// letters escaped, so a hostile zone cannot write to the terminal; what is
/// left over is checked all the same.
fn first_name(found: &Lookup) -> Option<String> {
    found.answers().iter().find_map(|record| {
        let RData::PTR(name) = &record.data else {
            return None;
        };
        let name = name.0.to_ascii();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let fit = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        fit.then(|| name.to_owned())
    })
}

fn plain(error: &NetError) -> String {
    match error {
        NetError::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(family: Family) -> Dns {
        let mut hosts = Hosts::default();
        hosts
            .read_hosts_conf(
                &b"10.0.9.2 www.example www\n2001:db8::9 www.example\n2001:db8::8 six.example\n"[..],
            )
            .unwrap();
        Dns {
            family,
            hosts: Arc::new(hosts),
            resolver: Err("no such file".to_owned()),
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn without_a_resolver_the_hosts_file_answers() {
        let v4: IpAddr = "10.0.9.2".parse().unwrap();
        let v6: IpAddr = "2001:db8::9".parse().unwrap();
        for (family, host, address) in [
            (Family::Any, "www.example", Some(v4)),
            (Family::V4, "www", Some(v4)),
            (Family::V6, "www.example", Some(v6)),
            (Family::Any, "WWW.Example.", Some(v4)),
            (
                Family::Any,
                "six.example",
                Some("2001:db8::8".parse().unwrap()),
            ),
            (Family::V4, "six.example", None),
            (Family::Any, "nosuch.example", None),
        ] {
            let found = block_on(bare(family).address(host));
            assert_eq!(found.as_ref().ok(), address.as_ref(), "{host}: {found:?}");
        }
        let error = block_on(bare(Family::Any).address("nosuch.example")).unwrap_err();
        assert_eq!(
            error,
            "nosuch.example: not in /etc/hosts, and no name server is configured (no such file); \
             mend /etc/resolv.conf or give an address"
        );
    }

    #[test]
    fn a_server_that_fails_is_not_silent() {
        const SERVFAIL: u8 = 2;
        const NXDOMAIN: u8 = 3;
        const REFUSED: u8 = 5;
        for (code, expected) in [
            (SERVFAIL, Reverse::Failed),
            (NXDOMAIN, Reverse::Nameless),
            (REFUSED, Reverse::Failed),
        ] {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let found = runtime.block_on(async {
                let server = testing::Server::new(move |_| testing::Reply::Code(code));
                let dns = Dns::asking(&server, Family::Any);
                dns.name("10.0.9.3".parse().unwrap()).await
            });
            assert_eq!(found, expected, "{code}");
        }
    }

    #[test]
    fn without_a_resolver_only_hosts_have_names() {
        let name = |text: &str| block_on(bare(Family::Any).name(text.parse().unwrap()));
        assert_eq!(
            name("2001:db8::8"),
            Reverse::Named("six.example".to_owned())
        );
        assert_eq!(name("10.0.9.3"), Reverse::Nameless);
    }
}
