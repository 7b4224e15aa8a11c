//! Each method has source ports of its own: a firewall on the way remembers flows, and
//! would take one method's segments for those of another's connection.

use std::ops::RangeInclusive;

use crate::cli::exit::Failure;
use crate::trace::Method;

/// A method whose probes are flows of their own needs more ports than one that has one
/// flow a trace.
const MANY: usize = 4;

fn weight(method: Method) -> usize {
    if method.is_one_flow() { 1 } else { MANY }
}

/// The ports of a method, of those that all methods of its protocol share; only one, if
/// all its runs are to keep one flow.
///
/// # Errors
/// When there are too few.
pub fn of(
    method: Method,
    all: &[Method],
    ports: &RangeInclusive<u16>,
    keep_flow: bool,
) -> Result<RangeInclusive<u16>, Failure> {
    let protocol = method.protocol(false);
    let alike = || all.iter().filter(|other| other.protocol(false) == protocol);
    let total: usize = alike().copied().map(weight).sum();
    let before = alike().take_while(|other| **other != method).copied();
    let before: usize = before.map(weight).sum();
    let at = |part: usize| ports.len() * part / total.max(1);
    let (first, behind) = (at(before), at(before + weight(method)));
    let last = match keep_flow && method.is_one_flow() {
        true => first,
        false => behind.saturating_sub(1),
    };
    let port = |nth: usize| ports.clone().nth(nth).filter(|_| first < behind);
    match (port(first), port(last)) {
        (Some(first), Some(last)) => Ok(first..=last),
        _ => Err(Failure::usage(format!(
            "--source-ports {}-{}: too few for {}, each method has its own; widen the range",
            ports.start(),
            ports.end(),
            method.as_str()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: RangeInclusive<u16> = 61_000..=65_535;

    #[test]
    fn methods_of_one_protocol_share_no_port_and_leave_none() {
        for keep_flow in [false, true] {
            let slices = Method::ALL.map(|method| of(method, &Method::ALL, &PORTS, keep_flow));
            let slices = slices.map(Result::unwrap);
            for (method, slice) in Method::ALL.iter().zip(&slices) {
                let kept = keep_flow && method.is_one_flow();
                assert_eq!(slice.len() == 1, kept, "{method:?}: {slice:?}");
                for (other, theirs) in Method::ALL.iter().zip(&slices) {
                    let alike = method.protocol(false) == other.protocol(false);
                    let apart = slice.end() < theirs.start() || theirs.end() < slice.start();
                    assert!(method == other || !alike || apart, "{method:?}, {other:?}");
                }
            }
            let tcp = Method::ALL.iter().zip(&slices);
            let tcp = tcp.filter(|(method, _)| method.protocol(false) == 6);
            let used: usize = tcp.map(|(_, slice)| slice.len()).sum();
            assert_eq!(used == PORTS.len(), !keep_flow);
        }
    }

    #[test]
    fn one_method_has_all_of_them_and_too_few_are_told() {
        let alone = of(Method::Tcp, &[Method::Tcp, Method::Udp], &PORTS, false);
        assert_eq!(alone, Ok(PORTS));
        let failure = of(Method::InSession, &Method::ALL, &(61_000..=61_003), false).unwrap_err();
        assert!(
            failure
                .message
                .starts_with("--source-ports 61000-61003: too few for insession")
        );
    }
}
