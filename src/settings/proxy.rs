//! Which hosts the environment wants reached without a proxy: NO_PROXY, or no_proxy, as Go's programs take it.

use std::net::IpAddr;

use super::variable;

/// Whether this host is to be reached without a proxy, whatever proxy there is.
pub fn without_proxy(host: &str) -> bool {
    let list = variable("NO_PROXY").or_else(|| variable("no_proxy")).unwrap_or_default();
    list.split(',').any(|entry| matches(entry.trim(), host))
}

/// `*`; an address or a range of them, as in 10.0.0.0/8; a name, which stands for all below it, too. A port is passed over.
fn matches(entry: &str, host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    if entry == "*" {
        return true;
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return match entry.split_once('/') {
            Some((start, bits)) => start.parse().is_ok_and(|start| bits.parse().is_ok_and(|bits| in_range(address, start, bits))),
            None => entry.parse().or_else(|_| without_port(entry).trim_matches(['[', ']']).parse()) == Ok(address),
        };
    }
    let (name, host) = (without_port(entry).trim_start_matches('*').trim_start_matches('.').to_ascii_lowercase(), host.to_ascii_lowercase());
    !name.is_empty() && (host == name || host.strip_suffix(&*name).is_some_and(|rest| rest.ends_with('.')))
}

fn without_port(entry: &str) -> &str {
    entry.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(entry, |(host, _)| host)
}

fn in_range(address: IpAddr, start: IpAddr, bits: u32) -> bool {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let ((address, width), (start, start_width)) = (number(address), number(start));
    width == start_width && bits <= width && (address ^ start).checked_shr(128 - bits).unwrap_or_default() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_excepted_by_name_domain_address_and_range() {
        for (entry, host) in [
            ("*", "anything"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:6443", "10.0.0.1"),
            ("10.0.0.0/8", "10.255.0.1"),
            ("0.0.0.0/0", "1.2.3.4"),
            ("fd00::/8", "[fd00::1]"),
            ("::1", "[::1]"),
            ("example.com", "api.Example.com"),
            (".example.com", "api.example.com"),
            ("*.example.com:443", "api.example.com"),
            ("kubernetes.default.svc", "kubernetes.default.svc"),
        ] {
            assert!(matches(entry, host), "{entry} {host}");
        }
        for (entry, host) in [
            ("", "anything"),
            ("10.0.0.1", "10.0.0.10"),
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.0/33", "10.0.0.0"),
            ("::/0", "10.0.0.1"),
            ("example.com", "notexample.com"),
            (".", "example.com"),
            ("10.0.0.0/8", "example.com"),
        ] {
            assert!(!matches(entry, host), "{entry} {host}");
        }
    }
}
