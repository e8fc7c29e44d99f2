//! The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt): what a proxy in front writes before everything
//! else, so that the gateway learns who has connected to it.
//!
//! Exactly the header is taken from the socket: what follows belongs to TLS or HTTP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Reads the header. `None` when the proxy speaks for itself or for somebody whose address it cannot tell.
///
/// # Errors
/// What is wrong with it, in words; the connection is of no use then.
pub async fn read(socket: &mut TcpStream) -> Result<Option<SocketAddr>, String> {
    let ended = |error: io::Error| format!("it ended early: {error}");
    // No header is shorter.
    let mut start = [0; SIGNATURE.len()];
    socket.read_exact(&mut start).await.map_err(ended)?;
    if start == *SIGNATURE {
        let mut rest = [0; 4];
        socket.read_exact(&mut rest).await.map_err(ended)?;
        return read_binary(socket, Binary::parse(rest)?).await;
    }
    if !start.starts_with(TEXT_START) {
        return Err("it begins with other bytes".to_owned());
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\n") {
        let room = MOST_TEXT.checked_sub(line.len()).filter(|room| *room > 0).ok_or("its line has more than 107 bytes")?;
        // A look ahead tells where the line ends; what is seen is then taken, and no byte more.
        let mut seen = [0; MOST_TEXT];
        let window = seen.get_mut(..room).unwrap_or_default();
        let count = socket.peek(window).await.map_err(ended)?;
        let window = window.get_mut(..count).unwrap_or_default();
        let end = window.iter().position(|b| *b == b'\n').map_or(count, |at| at.saturating_add(1));
        let taken = window.get_mut(..end).filter(|taken| !taken.is_empty()).ok_or("it ended early")?;
        socket.read_exact(taken).await.map_err(ended)?;
        line.extend_from_slice(taken);
    }
    parse_text(&line).map_err(str::to_owned)
}

async fn read_binary(socket: &mut TcpStream, header: Binary) -> Result<Option<SocketAddr>, String> {
    let ended = |error: io::Error| format!("it ended early: {error}");
    let mut block = [0; MOST_ADDRESSES];
    let block = block.get_mut(..header.addresses).unwrap_or_default();
    socket.read_exact(block).await.map_err(ended)?;
    // Of what a proxy may add to the addresses nothing is used here.
    let mut left = header.length.saturating_sub(header.addresses);
    let mut scratch = [0; 512];
    while left > 0 {
        let part = scratch.get_mut(..left.min(512)).unwrap_or_default();
        socket.read_exact(part).await.map_err(ended)?;
        left = left.saturating_sub(part.len());
    }
    Ok(header.source(block))
}

/// The whole line of version 1, with its end.
///
/// # Errors
/// What is wrong with it.
pub fn parse_text(line: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    let line = line.strip_suffix(b"\r\n").ok_or("its line does not end in CR LF")?;
    let line = std::str::from_utf8(line).map_err(|_| "its line is no ASCII")?;
    let mut words = line.split(' ');
    let (start, family) = (words.next(), words.next());
    if start != Some("PROXY") {
        return Err("it begins with other bytes");
    }
    // What follows UNKNOWN is to be ignored (section 2.1).
    if family == Some("UNKNOWN") {
        return Ok(None);
    }
    let mut next = || words.next().ok_or("its line lacks an address or a port");
    let (source, destination, source_port, destination_port) = (next()?, next()?, next()?, next()?);
    if words.next().is_some() {
        return Err("its line goes on after the ports");
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            Some("TCP4") => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            Some("TCP6") => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            Some(_) | None => None,
        }
    };
    let (Some(source), Some(_)) = (address(source), address(destination)) else {
        return Err("its family or an address cannot be read");
    };
    let (Some(port), Some(_)) = (port(source_port), port(destination_port)) else { return Err("a port cannot be read") };
    Ok(Some(SocketAddr::new(source, port)))
}

/// Decimal without leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// The fixed part of version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binary {
    family: Family,
    /// Bytes that follow.
    length: usize,
    /// How many of them are addresses that are read.
    addresses: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    /// LOCAL, or a family without addresses that mean something here.
    None,
}

impl Binary {
    /// From the bytes after the signature: version and command, family and transport, length.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(bytes: [u8; 4]) -> Result<Self, &'static str> {
        let [version_command, family, high, low] = bytes;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let is_local = match version_command {
            0x20 => true,
            0x21 => false,
            _ => return Err("its version is not 2, or its command neither LOCAL nor PROXY"),
        };
        let family = match family {
            _ if is_local => Family::None,
            // UNSPEC, as of a proxy that does not know.
            0x00 => Family::None,
            0x11 => Family::V4,
            0x21 => Family::V6,
            _ => return Err("it is not of a TCP connection"),
        };
        let addresses = family.bytes();
        if length < addresses {
            return Err("it is too short for its addresses");
        }
        Ok(Self { family, length, addresses })
    }

    fn source(self, block: &[u8]) -> Option<SocketAddr> {
        let port = |at: usize| block.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_be_bytes);
        match self.family {
            Family::V4 => {
                let address = <[u8; 4]>::try_from(block.get(..4)?).ok()?;
                Some(SocketAddr::new(IpAddr::from(address), port(8)?))
            }
            Family::V6 => {
                let address = <[u8; 16]>::try_from(block.get(..16)?).ok()?;
                Some(SocketAddr::new(IpAddr::from(address), port(32)?))
            }
            Family::None => None,
        }
    }
}

impl Family {
    /// Two addresses and two ports.
    fn bytes(self) -> usize {
        match self {
            Self::V4 => 12,
            Self::V6 => MOST_ADDRESSES,
            Self::None => 0,
        }
    }
}

const TEXT_START: &[u8] = b"PROXY ";
/// The longest line of version 1, with its end (section 2.1).
const MOST_TEXT: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const MOST_ADDRESSES: usize = 36;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(line: &str) -> Result<Option<String>, &'static str> {
        parse_text(line.as_bytes()).map(|source| source.map(|source| source.to_string()))
    }

    #[test]
    fn a_line_of_version_1_names_the_source() {
        let source = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(text("PROXY TCP4 203.0.113.9 192.0.2.1 51000 443\r\n"), source("203.0.113.9:51000"));
        assert_eq!(text("PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n"), source("[2001:db8::1]:0"));
        let long = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let longest = format!("PROXY TCP6 {long} {long} 65535 65535\r\n");
        assert_eq!(text(&longest), source("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"));
        for unknown in ["PROXY UNKNOWN\r\n", &format!("PROXY UNKNOWN {long} {long} 65535 65535\r\n")] {
            assert_eq!(text(unknown), Ok(None), "{unknown}");
            assert!(unknown.len() <= MOST_TEXT);
        }
    }

    #[test]
    fn a_malformed_line_of_version_1_is_refused() {
        for line in [
            "PROXY TCP4 203.0.113.9 192.0.2.1 51000 443\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 51000\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 51000 443 1\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 51000 65536\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 051000 443\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 +1 443\r\n",
            "PROXY TCP4 203.0.113.009 192.0.2.1 51000 443\r\n",
            "PROXY TCP4 2001:db8::1 192.0.2.1 51000 443\r\n",
            "PROXY TCP6 203.0.113.9 2001:db8::2 51000 443\r\n",
            "PROXY  TCP4 203.0.113.9 192.0.2.1 51000 443\r\n",
            "PROXY UDP4 203.0.113.9 192.0.2.1 51000 443\r\n",
            "PROXY\r\n",
            "proxy TCP4 203.0.113.9 192.0.2.1 51000 443\r\n",
        ] {
            assert!(matches!(text(line), Err(why) if !why.is_empty()), "{line}");
        }
    }

    #[test]
    fn the_fixed_part_of_version_2_tells_what_follows() {
        let parse = Binary::parse;
        assert_eq!(parse([0x21, 0x11, 0, 12]), Ok(Binary { family: Family::V4, length: 12, addresses: 12 }));
        assert_eq!(parse([0x21, 0x21, 1, 0]), Ok(Binary { family: Family::V6, length: 256, addresses: 36 }));
        assert_eq!(parse([0x20, 0x11, 0, 12]), Ok(Binary { family: Family::None, length: 12, addresses: 0 }));
        assert_eq!(parse([0x21, 0x00, 0, 0]), Ok(Binary { family: Family::None, length: 0, addresses: 0 }));
        for wrong in [[0x11, 0x11, 0, 12], [0x22, 0x11, 0, 12], [0x21, 0x12, 0, 12], [0x21, 0x31, 0, 216], [0x21, 0x11, 0, 11]] {
            assert!(matches!(parse(wrong), Err(why) if !why.is_empty()), "{wrong:?}");
        }
    }

    #[test]
    fn the_source_of_version_2_stands_first() {
        let v4 = Binary::parse([0x21, 0x11, 0, 12]).unwrap();
        let block = [203, 0, 113, 9, 192, 0, 2, 1, 0xc7, 0x38, 1, 187];
        assert_eq!(v4.source(&block), Some("203.0.113.9:51000".parse().unwrap()));
    }

    proptest! {
        /// Whatever a peer sends, it is a header or it is refused, and what is written is what is read.
        #[test]
        fn any_bytes_are_read_without_a_panic(line in proptest::collection::vec(any::<u8>(), 0..120), fixed: [u8; 4]) {
            let text = parse_text(&line);
            prop_assert!(text.is_err() || line.ends_with(b"\r\n"));
            if let Ok(header) = Binary::parse(fixed) {
                prop_assert_eq!(header.source(&[]).is_some(), false);
                prop_assert!(header.addresses <= header.length);
            }
        }

        #[test]
        fn what_a_proxy_writes_is_read_back(source: IpAddr, destination: IpAddr, ports: (u16, u16)) {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let line = format!("PROXY {family} {source} {destination} {} {}\r\n", ports.0, ports.1);
            let expected = (source.is_ipv4() == destination.is_ipv4()).then(|| SocketAddr::new(source, ports.0).to_string());
            prop_assert_eq!(text(&line).ok().flatten(), expected);
        }
    }
}
