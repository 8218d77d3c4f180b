//! Random faults: what a place of a cluster may do to the candidate that runs there. Which ones, and how long they last, comes
//! from a seed; what the candidates make of it does not.

use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;

use super::account::{Event, now};
use super::candidate::{Candidate, Flags, Program};
use super::verdict::Suffered;
use crate::control_plane::{ControlPlane, Mode, Proxy};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Its process is killed, and started anew after so long.
    Killed(Duration),
    /// Its process stands still for so long.
    Paused(Duration),
    /// The same, and it is asked to end meanwhile.
    PausedAndAsked(Duration),
    /// It is asked to end while its connections are like this.
    Asked(Mode),
    /// Its connections are like this for so long.
    Cut(Mode, Duration),
}

impl Fault {
    /// Half of the lengths are shorter than a lease of 5 s.
    fn random(random: &mut Rng) -> Self {
        let length = milliseconds(random, 200, 10_000);
        let delay = Mode::Delay(milliseconds(random, 20, 1_500));
        match random.u32(0..11) {
            0 | 1 => Self::Killed(length),
            2 | 3 => Self::Paused(length),
            4 => Self::PausedAndAsked(length),
            5 => Self::Asked(Mode::Pass),
            6 => Self::Asked(delay),
            7 => Self::Asked(Mode::BlackHole),
            8 => Self::Cut(Mode::Refuse, length),
            9 => Self::Cut(Mode::BlackHole, length),
            _ => Self::Cut(delay, length),
        }
    }

    fn words(self) -> String {
        match self {
            Self::Killed(down) => format!("killed, and started anew after {down:?}"),
            Self::Paused(length) => format!("paused for {length:?}"),
            Self::PausedAndAsked(length) => format!("paused for {length:?}, and asked to end meanwhile"),
            Self::Asked(mode) => format!("asked to end, with its connections at {mode:?}"),
            Self::Cut(mode, length) => format!("its connections at {mode:?} for {length:?}"),
        }
    }
}

fn milliseconds(random: &mut Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(random.u64(least..most))
}

/// Where candidates of one program run, one after the other, each under a name of its own: behind one proxy.
pub(super) struct Place<'a> {
    control_plane: &'a ControlPlane,
    program: Program,
    flags: Flags,
    name: String,
    /// Whether all others are of the same program.
    alone: bool,
    proxy: Proxy,
    kubeconfig: PathBuf,
    /// The last one runs, unless it is being replaced.
    pub(super) candidates: Vec<Candidate>,
    pub(super) suffered: Vec<Suffered>,
}

impl<'a> Place<'a> {
    /// With a candidate that has seen who leads, or leads.
    pub(super) async fn new(control_plane: &'a ControlPlane, program: &Program, flags: &Flags, name: &str, alone: bool) -> Self {
        let proxy = control_plane.proxy().unwrap();
        let kubeconfig = control_plane.kubeconfig_through(&proxy).unwrap();
        let (program, flags, name) = (program.clone(), flags.clone(), name.to_owned());
        let mut place = Self { control_plane, program, flags, name, alone, proxy, kubeconfig, candidates: Vec::new(), suffered: Vec::new() };
        place.start().await;
        place.candidate().sees_a_leader_within(PATIENCE).await.unwrap();
        place
    }

    async fn start(&mut self) {
        let id = format!("{}-{}", self.name, self.candidates.len() + 1);
        self.candidates.push(Candidate::start_with(self.control_plane, &self.program, &self.flags, &id, &self.kubeconfig).await.unwrap());
    }

    /// The one that runs.
    pub(super) fn candidate(&self) -> &Candidate {
        self.candidates.last().expect("a place has a candidate from its beginning")
    }

    /// Lets its candidates suffer one fault after the other, until this moment; the last is over when this returns.
    pub(super) async fn suffer(&mut self, mut random: Rng, until: Duration) {
        while now() < until {
            tokio::time::sleep(milliseconds(&mut random, 300, 3_000)).await;
            let fault = Fault::random(&mut random);
            // What befalls a leader is of more interest. Ours are the first to see that a lease is over, so client-go leads
            // where ours are kept from it.
            let client_go = matches!(self.program, Program::ClientGo | Program::ClientGoOld);
            if (self.alone || client_go) && random.u32(0..3) > 0 && !self.leads() {
                continue;
            }
            let (who, what, from) = (self.candidate().id().to_owned(), fault.words(), now());
            self.inflict(fault).await;
            self.suffered.push(Suffered { who, what, from, to: now() });
        }
    }

    fn leads(&self) -> bool {
        self.candidate().last_tick().is_some_and(|tick| tick + Duration::from_millis(200) > now())
    }

    async fn inflict(&mut self, fault: Fault) {
        match fault {
            Fault::Killed(down) => {
                self.candidate().kill().unwrap();
                tokio::time::sleep(down).await;
                self.start().await;
            }
            Fault::Paused(length) => {
                self.candidate().pause().unwrap();
                tokio::time::sleep(length).await;
                self.candidate().resume().unwrap();
            }
            Fault::PausedAndAsked(length) => {
                self.candidate().pause().unwrap();
                tokio::time::sleep(length).await;
                self.candidate().terminate().unwrap();
                self.candidate().resume().unwrap();
                self.replace_when_it_ends().await;
            }
            Fault::Asked(mode) => {
                self.proxy.set(mode).await;
                self.candidate().terminate().unwrap();
                self.replace_when_it_ends().await;
            }
            Fault::Cut(mode, length) => {
                self.proxy.set(mode).await;
                tokio::time::sleep(length).await;
                self.proxy.set(Mode::Pass).await;
            }
        }
    }

    async fn replace_when_it_ends(&mut self) {
        let ended = self.candidate().ends_within(PATIENCE).await.unwrap();
        assert!(ended.success(), "{} ended with {ended}", self.candidate().id());
        self.proxy.set(Mode::Pass).await;
        self.start().await;
    }

    /// When each of its candidates began to lead, once per leadership.
    pub(super) fn began(&self) -> impl Iterator<Item = (String, Vec<Duration>)> {
        self.candidates.iter().map(|candidate| {
            let began = candidate.lines().into_iter().filter(|line| line.event == Event::Started).map(|line| line.at);
            (candidate.id().to_owned(), began.collect())
        })
    }
}
