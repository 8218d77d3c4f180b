//! Wakes at a moment of the clock that leases are judged by: it goes on while the machine is suspended, which the
//! runtime's timers do not see.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime};
use tokio::io::unix::AsyncFd;

use crate::elector::clock::Instant;

pub(super) struct Alarm {
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    #[expect(deprecated, reason = "unsound for types that give away another descriptor than their own, which OwnedFd does not; its successor is unsafe")]
    pub(super) fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self { timer: AsyncFd::new(timer)? })
    }

    /// Completes at `moment`, or at once if it has passed.
    pub(super) async fn at(&self, moment: Instant) -> io::Result<()> {
        // Zero would mean never.
        let at = moment.0.max(Duration::from_nanos(1));
        let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        let it_value = Timespec { tv_sec: seconds, tv_nsec: at.subsec_nanos().into() };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval, it_value })?;
        loop {
            let mut ready = self.timer.readable().await?;
            match rustix::io::read(self.timer.get_ref(), &mut [0; 8]) {
                Ok(_) => return Ok(()),
                // Setting it anew has taken back what made it ready.
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elector::clock::{Clock, SystemClock};

    #[tokio::test]
    async fn it_wakes_at_its_moment_and_at_once_for_one_that_has_passed() {
        let alarm = Alarm::new().unwrap();
        let moment = SystemClock.now() + Duration::from_millis(20);
        alarm.at(moment).await.unwrap();
        assert!(SystemClock.now() >= moment);
        alarm.at(moment).await.unwrap();
        alarm.at(Instant::default()).await.unwrap();
    }
}
