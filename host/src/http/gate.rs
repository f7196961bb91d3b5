//! Limits on connections. There are `rest.max.connections` places, and one peer has a share of them. When all are taken, a
//! new connection gets the place of an idle one. When none is idle, it gets one of a few spare places on which only probes
//! are answered, so that a monitor does not take a busy daemon for a dead one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::client_timeouts::Activity;
use super::limits::{PROBE_PLACES, SPARE_HEAD, SPARE_PROBE};
use crate::config::worker::RestConfig;

#[derive(Debug)]
pub(super) struct Gate {
    most: usize,
    share: usize,
    guests: Mutex<Guests>,
    /// How many are there.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    all: BTreeMap<u64, Guest>,
}

#[derive(Debug)]
struct Guest {
    peer: IpAddr,
    probe: bool,
    activity: Activity,
    leave: Arc<Notify>,
    /// It was asked to leave, and counts as gone.
    leaving: bool,
}

/// What a connection may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    All,
    /// Why not all.
    Probes(Full),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    All(usize),
    Peer(usize),
}

impl Full {
    pub fn message(self) -> String {
        match self {
            Full::All(most) => {
                format!("all {most} connections are in use (rest.max.connections)")
            }
            Full::Peer(share) => format!(
                "all {share} connections of this address are in use (rest.max.connections.per.peer)"
            ),
        }
    }
}

/// Given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    id: u64,
    pub activity: Activity,
    leave: Arc<Notify>,
    pub asks: Asks,
}

impl Place {
    /// Ends when the place is wanted by somebody else.
    pub async fn wanted(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut guests = self.gate.guests();
        guests.all.remove(&self.id);
        self.gate.count.send_replace(guests.all.len());
    }
}

impl Gate {
    pub fn new(rest: &RestConfig) -> Arc<Gate> {
        Arc::new(Gate {
            most: rest.max_connections,
            share: rest.max_per_peer,
            guests: Mutex::default(),
            count: watch::Sender::new(0),
        })
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error if there is no place even for a probe.
    pub fn enter(self: &Arc<Gate>, peer: IpAddr) -> Result<Place, Full> {
        let peer = peer.to_canonical();
        let now = Instant::now();
        let mut guests = self.guests();
        let here = |g: &&Guest| !g.probe && !g.leaving;
        let all = guests.all.values().filter(here).count();
        let own = (guests.all.values().filter(here)).filter(|g| g.peer == peer);
        // A connection from this machine may be a proxy for many clients.
        let over = !peer.is_loopback() && own.count() >= self.share;
        let full = match (over, all >= self.most) {
            (true, _) => Some(Full::Peer(self.share)),
            (false, true) => Some(Full::All(self.most)),
            (false, false) => None,
        };
        let Some(full) = full else {
            return Ok(self.take(&mut guests, peer, Asks::All));
        };
        let spare = |g: &Guest| !g.probe && (!over || g.peer == peer);
        if guests.send_away(now, SPARE_HEAD, spare) {
            return Ok(self.take(&mut guests, peer, Asks::All));
        }
        let probes = guests.all.values().filter(|g| g.probe && !g.leaving);
        if probes.count() < PROBE_PLACES || guests.send_away(now, SPARE_PROBE, |g| g.probe) {
            return Ok(self.take(&mut guests, peer, Asks::Probes(full)));
        }
        Err(full)
    }

    fn take(self: &Arc<Gate>, guests: &mut Guests, peer: IpAddr, asks: Asks) -> Place {
        let place = Place {
            gate: self.clone(),
            id: guests.next,
            activity: Activity::new(),
            leave: Arc::default(),
            asks,
        };
        let guest = Guest {
            peer,
            probe: asks != Asks::All,
            activity: place.activity.clone(),
            leave: place.leave.clone(),
            leaving: false,
        };
        guests.all.insert(guests.next, guest);
        guests.next += 1;
        self.count.send_replace(guests.all.len());
        place
    }

    /// Ends when nobody is connected.
    pub async fn empty(&self) {
        let mut count = self.count.subscribe();
        drop(count.wait_for(|count| *count == 0).await);
    }
}

impl Guests {
    /// Closes the connection that has wanted nothing for longest: first one that was answered, then, after `head`, one
    /// that has not sent a request. False: there is none.
    fn send_away(&mut self, now: Instant, head: Duration, of: impl Fn(&Guest) -> bool) -> bool {
        let idle = |guest: &mut Guest| {
            let (idle, since) = guest.activity.wants_nothing()?;
            let long = idle || now.saturating_duration_since(since) >= head;
            long.then_some((!idle, since))
        };
        let guests = self.all.values_mut().filter(|g| !g.leaving && of(g));
        let longest = guests
            .filter_map(|guest| Some((idle(guest)?, guest)))
            .min_by_key(|(since, _)| *since);
        let Some((_, guest)) = longest else {
            return false;
        };
        guest.leaving = true;
        guest.leave.notify_one();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(most: usize, share: usize) -> Arc<Gate> {
        Arc::new(Gate {
            most,
            share,
            guests: Mutex::default(),
            count: watch::Sender::new(0),
        })
    }

    const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn one_address_has_its_share_and_this_machine_may_have_all() {
        let gate = gate(10, 3);
        let busy = |peer| {
            let place = gate.enter(peer).expect("a place");
            place.activity.busy();
            place
        };
        let mut held: Vec<Place> = (0..3).map(|_| busy(FAR)).collect();
        assert!(held.iter().all(|place| place.asks == Asks::All));
        assert_eq!(busy(FAR).asks, Asks::Probes(Full::Peer(3)));
        // Written as IPv6 it is the same one.
        let mapped = IpAddr::V6(std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped());
        assert_eq!(busy(mapped).asks, Asks::Probes(Full::Peer(3)));
        assert_eq!(busy(OTHER).asks, Asks::All);
        held.extend((0..7).map(|_| busy(NEAR)));
        assert!(held.iter().all(|place| place.asks == Asks::All));
        assert_eq!(busy(NEAR).asks, Asks::Probes(Full::All(10)));
    }

    #[test]
    fn who_was_answered_goes_before_who_is_busy_and_probes_have_places_of_their_own() {
        let gate = gate(2, 2);
        let busy = gate.enter(NEAR).expect("a place");
        busy.activity.busy();
        let young = gate.enter(NEAR).expect("a place");
        // Its head may still come: it is not closed for a client that comes right after it.
        let probe = gate.enter(NEAR).expect("a place");
        assert_eq!(probe.asks, Asks::Probes(Full::All(2)));
        drop(probe);
        young.activity.idle_now();
        assert_eq!(gate.enter(NEAR).expect("its place").asks, Asks::All);
        drop(young);
        let third = gate.enter(NEAR).expect("a place");
        third.activity.busy();
        let probes: Vec<Place> = (0..PROBE_PLACES)
            .map(|_| gate.enter(NEAR).expect("for a probe"))
            .collect();
        assert!(probes.iter().all(|p| p.asks == Asks::Probes(Full::All(2))));
        assert_eq!(gate.enter(NEAR).expect_err("full"), Full::All(2));
    }
}
