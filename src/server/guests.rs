//! Who is inside of one server, and who goes where it is full. It knows addresses and what a guest is about, no sockets
//! and no time: who came first has been there longest.
//!
//! A newcomer is never turned away: the kubelet's probe is one, whatever a flood has filled the place with.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Connections at once.
pub(super) const GUESTS: usize = 128;
/// Streams among them. Half, so that there is always somebody else who can go.
pub(super) const STREAMS: usize = GUESTS / 2;
/// Streams to other machines and pods: the application beside an elector always finds one.
const STREAMS_OUTSIDE: usize = STREAMS / 2;
/// Bytes of answers that wait for their readers.
const ANSWERS: u64 = 16 << 20;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Doing {
    /// Has sent no whole request yet.
    Waiting,
    /// Has been answered, or is being.
    Answered,
    Streaming,
}

struct Entry {
    address: IpAddr,
    doing: Doing,
    /// Of the last answer.
    bytes: u64,
    _stay: oneshot::Sender<()>,
}

#[derive(Default)]
struct Book {
    next: u64,
    inside: BTreeMap<u64, Entry>,
}

impl Book {
    /// Of those for whom `weight` gives something: who belongs to the address with the most of it, rather one that waits,
    /// and the longest there.
    fn to_go(&self, weight: impl Fn(u64, &Entry) -> Option<u64>) -> Option<u64> {
        let mut of_address: HashMap<IpAddr, u64> = HashMap::new();
        let weigh = |(number, entry): (&u64, &Entry)| weight(*number, entry).map(|weight| (entry.address, weight));
        for (address, weight) in self.inside.iter().filter_map(weigh) {
            *of_address.entry(address).or_default() += weight;
        }
        let candidates = self.inside.iter().filter(|(number, entry)| weight(**number, entry).is_some());
        let worst = candidates.max_by_key(|(number, entry)| (of_address.get(&entry.address), entry.doing == Doing::Waiting, Reverse(**number)));
        worst.map(|(number, _)| *number)
    }

    fn one_who_can_go(&self) -> Option<u64> {
        self.to_go(|_, entry| (entry.doing != Doing::Streaming).then_some(1))
    }
}

/// All guests of one server. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Guests(Arc<Mutex<Book>>);

impl Guests {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets somebody in; the flag says whether another had to go for it.
    pub(super) fn enter(&self, address: IpAddr) -> (Stay, bool) {
        let mut book = self.book();
        let full = book.inside.len() >= GUESTS;
        if full && let Some(other) = book.one_who_can_go() {
            book.inside.remove(&other);
        }
        let number = book.next;
        book.next += 1;
        let (stay, leave) = oneshot::channel();
        book.inside.insert(number, Entry { address: address.to_canonical(), doing: Doing::Waiting, bytes: 0, _stay: stay });
        (Stay { guest: Guest { number, guests: self.clone() }, leave }, full)
    }

    /// Sends some away, where the process itself has no room for more.
    pub(super) fn make_room(&self) {
        let mut book = self.book();
        for _ in 0..GUESTS / 4 {
            let Some(other) = book.one_who_can_go() else { return };
            book.inside.remove(&other);
        }
    }
}

/// A connection's place; it is free when this is dropped.
pub(super) struct Stay {
    pub(super) guest: Guest,
    /// Completes when the guest has to go.
    pub(super) leave: oneshot::Receiver<()>,
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.guest.guests.book().inside.remove(&self.guest.number);
    }
}

/// Who asks: what handlers find among a request's extensions.
#[derive(Clone)]
pub(super) struct Guest {
    number: u64,
    guests: Guests,
}

impl Guest {
    /// A whole request is there.
    pub(super) fn has_asked(&self) {
        self.with(|entry| (entry.doing, entry.bytes) = (Doing::Answered, 0));
    }

    /// An answer of this size waits for its reader. Where all together are too much, others lose theirs.
    pub(super) fn is_answered(&self, bytes: u64) {
        self.with(|entry| entry.bytes = bytes);
        let mut book = self.guests.book();
        while book.inside.values().map(|entry| entry.bytes).sum::<u64>() > ANSWERS {
            let other = book.to_go(|number, entry| (number != self.number && entry.bytes > 0).then_some(entry.bytes));
            let Some(other) = other else { break };
            book.inside.remove(&other);
        }
    }

    /// Whether it may have a stream, which ends with its connection.
    pub(super) fn may_stream(&self) -> bool {
        let mut book = self.guests.book();
        let streams = book.inside.values().filter(|entry| entry.doing == Doing::Streaming);
        let (inside, outside): (Vec<_>, Vec<_>) = streams.partition(|entry| entry.address.is_loopback());
        let room = inside.len() + outside.len() < STREAMS;
        let room_outside = outside.len() < STREAMS_OUTSIDE;
        let Some(entry) = book.inside.get_mut(&self.number) else { return false };
        let may = room && (entry.address.is_loopback() || room_outside);
        if may {
            entry.doing = Doing::Streaming;
        }
        may
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.guests.book().inside.get(&self.number).is_some_and(|entry| entry.doing == Doing::Streaming)
    }

    fn with(&self, change: impl FnOnce(&mut Entry)) {
        // One that has to go may still be at work.
        if let Some(entry) = self.guests.book().inside.get_mut(&self.number) {
            change(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn gone(stay: &mut Stay) -> bool {
        stay.leave.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn a_newcomer_takes_the_place_of_the_longest_there_of_the_address_that_has_most() {
        let guests = Guests::default();
        let mut kubelet = guests.enter(address(1)).0;
        let mut flood: Vec<_> = (1..GUESTS).map(|_| guests.enter(address(9)).0).collect();
        assert!(flood.iter_mut().all(|stay| !gone(stay)), "there is room for all of them");
        let (mut newcomer, full) = guests.enter(address(2));
        assert!(full && gone(&mut flood[0]));
        assert!(!gone(&mut newcomer) && !gone(&mut kubelet) && !gone(&mut flood[1]));
        assert_eq!(guests.book().inside.len(), GUESTS);
    }

    #[test]
    fn who_waits_goes_before_who_has_asked() {
        let guests = Guests::default();
        let mut all: Vec<_> = (0..GUESTS).map(|_| guests.enter(address(9)).0).collect();
        all[0].guest.has_asked();
        drop(guests.enter(address(9)));
        assert!(!gone(&mut all[0]) && gone(&mut all[1]));
    }

    #[test]
    fn a_place_is_free_when_its_guest_has_left() {
        let guests = Guests::default();
        for _ in 0..3 * GUESTS {
            assert!(!guests.enter(address(1)).1);
        }
        assert_eq!(guests.book().inside.len(), 0);
    }

    #[test]
    fn streams_are_limited_and_outsiders_leave_half_of_them_to_the_pods_own_application() {
        let guests = Guests::default();
        let outside: Vec<_> = (0..GUESTS).map(|_| guests.enter(address(9)).0).collect();
        assert_eq!(outside.iter().filter(|stay| stay.guest.may_stream()).count(), STREAMS_OUTSIDE);
        let own: Vec<_> = (0..GUESTS - STREAMS_OUTSIDE).map(|_| guests.enter([127, 0, 0, 1].into()).0).collect();
        assert_eq!(own.iter().filter(|stay| stay.guest.may_stream()).count(), STREAMS - STREAMS_OUTSIDE);
        drop(own);
        assert!(guests.enter("::ffff:127.0.0.1".parse().unwrap()).0.guest.may_stream(), "what has ended is free again");
    }

    #[test]
    fn no_flood_ends_a_stream() {
        let guests = Guests::default();
        let mut stream = guests.enter(address(9)).0;
        assert!(stream.guest.may_stream());
        let _flood: Vec<_> = (0..3 * GUESTS).map(|_| guests.enter(address(9)).0).collect();
        assert!(!gone(&mut stream) && stream.guest.is_streaming());
    }

    #[test]
    fn answers_that_nobody_reads_are_bounded_by_their_bytes() {
        let guests = Guests::default();
        let mut scraper = guests.enter(address(1)).0;
        scraper.guest.is_answered(ANSWERS / 16);
        let mut slow: Vec<_> = (0..20).map(|_| guests.enter(address(9)).0).collect();
        for stay in &slow {
            stay.guest.is_answered(ANSWERS / 8);
        }
        assert!(!gone(&mut scraper), "the one who holds least keeps it");
        assert_eq!(slow.iter_mut().filter_map(|stay| (!gone(stay)).then_some(())).count(), 7);
        let mut alone = guests.enter(address(2)).0;
        alone.guest.is_answered(2 * ANSWERS);
        assert!(!gone(&mut alone), "one answer is always given");
    }
}
