//! What is done when clients make the server hold more memory than it should: who gives some up,
//! and who goes on all the same. Decisions only: the sweep finds the connections, and has them
//! driven.

use std::time::Instant;

use super::service::Token;
use crate::memory::Eviction;

/// A connection makes progress if it moves what it holds in at most so many periods of the sweep.
const PERIODS_FOR_ALL: u64 = 8;
/// Nobody takes more than so many bytes before the next look or two.
const MOST_AT_ONCE: usize = 1024 * 1024;

/// A connection that holds memory, or waits for some.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) token: Token,
    /// Bytes of memory, and bytes that wait in its socket.
    pub(super) held: usize,
    pub(super) in_kernel: usize,
    /// How many bytes of memory it may take yet.
    pub(super) to_go: usize,
    /// Bytes in both directions, since it was opened and in the last one or two periods.
    pub(super) moved: u64,
    pub(super) moved_lately: u64,
    /// It waits for its client to take more of its answer.
    pub(super) is_answer: bool,
    /// It has not held any for long enough to be judged by that.
    pub(super) is_new: bool,
    /// Since when it has waited for memory, if it does.
    pub(super) waits_since: Option<Instant>,
}

/// Bytes that are to be given back by those that are stalled, and by anybody; bytes that are there
/// for those that wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels {
    pub(super) shortage: usize,
    pub(super) flood: usize,
    pub(super) room: usize,
}

/// Who is asked for what.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) evicted: Vec<(Holder, Eviction)>,
    pub(super) go_on: Vec<Token>,
    /// How many others wait.
    pub(super) waiting: usize,
}

/// What of the bytes that one may take yet is set aside for it.
pub(super) fn counted(to_go: usize) -> usize {
    to_go.min(MOST_AT_ONCE)
}

impl Holder {
    /// Bytes that its end gives back.
    fn frees(&self) -> usize {
        self.held + self.in_kernel
    }

    /// Bytes held for each that was moved lately.
    fn cost(&self) -> u64 {
        self.frees() as u64 / (self.moved_lately + 1)
    }

    /// In a flood the one with the greatest weight is given up first: answers that are hardly taken,
    /// then the largest, by what it holds and may take yet, to a power of two, so that among those
    /// that are alike the ones go first whose clients send nothing at the moment.
    fn weight(&self) -> impl Ord + use<> {
        let is_unread = self.is_answer && !self.is_new && self.cost() > 0;
        let size = (self.held + self.to_go).checked_ilog2();
        let sends_nothing = self.waits_since.is_none();
        (self.frees() > 0, is_unread, size, sends_nothing, self.held)
    }

    fn is_stalled(&self) -> bool {
        !self.is_new && self.moved_lately.saturating_mul(PERIODS_FOR_ALL) < self.frees() as u64
    }
}

/// The stalled give up their memory, those first that hold the most for the least progress, and in
/// a flood others by their weight. Of those that wait, as many go on as there is room for: those
/// that hold memory first, and of these the ones with the least to go.
///
/// Unless `one_goes_on` already, one of those that hold memory does, however far it has to go, so
/// that they do not wait for each other.
pub(super) fn relieve(holders: Vec<Holder>, levels: Levels, one_goes_on: bool) -> Plan {
    let mut plan = Plan::default();
    let mut freed = 0;
    let (mut stalled, mut line): (Vec<_>, Vec<_>) =
        holders.into_iter().partition(Holder::is_stalled);
    stalled.sort_unstable_by_key(Holder::cost);
    while freed < levels.shortage
        && let Some(holder) = stalled.pop()
    {
        freed += holder.frees();
        plan.evicted.push((holder, Eviction::Stalled));
    }
    line.append(&mut stalled);
    line.sort_unstable_by_key(Holder::weight);
    while freed < levels.flood
        && let Some(holder) = line.pop_if(|holder| holder.frees() > 0)
    {
        freed += holder.frees();
        plan.evicted.push((holder, Eviction::Flood));
    }
    line.sort_unstable_by_key(|holder| (holder.held == 0, holder.to_go, holder.waits_since));
    let mut room = levels.room;
    for holder in line.iter().filter(|holder| holder.waits_since.is_some()) {
        let is_first = !one_goes_on && plan.go_on.is_empty() && holder.held > 0;
        if holder.to_go <= room || is_first {
            room = room.saturating_sub(counted(holder.to_go));
            plan.go_on.push(holder.token);
        } else {
            plan.waiting += 1;
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOTHING: Levels = Levels { shortage: 0, flood: 0, room: 0 };

    fn holder(place: u32, held: usize, moved_lately: u64) -> Holder {
        let token = Token { place, generation: 0 };
        Holder {
            token,
            held,
            in_kernel: 0,
            to_go: 0,
            moved: 0,
            moved_lately,
            is_answer: false,
            is_new: false,
            waits_since: None,
        }
    }

    fn waiting(place: u32, to_go: usize, since: Instant) -> Holder {
        Holder { to_go, waits_since: Some(since), ..holder(place, 50_000, 50_000) }
    }

    fn evicted(plan: &Plan) -> Vec<u32> {
        plan.evicted.iter().map(|(holder, _)| holder.token.place).collect()
    }

    fn going_on(plan: &Plan) -> Vec<u32> {
        plan.go_on.iter().map(|token| token.place).collect()
    }

    #[test]
    fn stalled_go_first_and_no_more_than_it_takes() {
        let holders = vec![
            holder(0, 50_000, 40_000),
            holder(1, 60_000, 10),
            holder(2, 60_000, 0),
            holder(3, 9_000, 0),
            Holder { is_new: true, ..holder(4, 90_000, 0) },
        ];
        let plan = relieve(holders, Levels { shortage: 100_000, ..NOTHING }, false);
        assert_eq!((evicted(&plan), going_on(&plan)), (vec![2, 3, 1], Vec::new()));
    }

    #[test]
    fn stalled_are_not_spared_for_waiting() {
        let stalled = Holder { moved_lately: 1, ..waiting(0, 900_000, Instant::now()) };
        let shortage = Levels { shortage: 1, ..NOTHING };
        assert_eq!(evicted(&relieve(vec![stalled.clone()], shortage, false)), [0]);
        let plan = relieve(vec![stalled], NOTHING, false);
        assert_eq!((evicted(&plan), going_on(&plan)), (Vec::new(), vec![0]));
    }

    #[test]
    fn in_a_flood_the_largest_are_given_up() {
        let now = Instant::now();
        let holders = vec![
            waiting(0, 900_000, now),
            Holder { to_go: 10_000_000, is_new: true, ..holder(1, 50_000, 50_000) },
            waiting(2, 10_000_000, now - Duration::from_secs(1)),
            holder(3, 50_000, 50_000),
        ];
        let levels = Levels { shortage: 500_000, flood: 60_000, room: 0 };
        let plan = relieve(holders.clone(), levels, false);
        assert_eq!((evicted(&plan), going_on(&plan)), (vec![1, 2], vec![0]));
        assert_eq!(evicted(&relieve(holders, Levels { flood: 0, ..levels }, false)), [0_u32; 0]);
    }

    #[test]
    fn among_those_alike_the_ones_are_given_up_that_send_nothing() {
        let sends_nothing = Holder { to_go: 500_000, is_new: true, ..holder(0, 500_000, 500_000) };
        let holders = vec![sends_nothing, waiting(1, 800_000, Instant::now())];
        let plan = relieve(holders, Levels { flood: 1, ..NOTHING }, false);
        assert_eq!((evicted(&plan), going_on(&plan)), (vec![0], vec![1]));
    }

    #[test]
    fn in_a_flood_answers_that_are_hardly_taken_go_first() {
        let answer = |place, moved_lately| Holder {
            is_answer: true,
            ..holder(place, 100_000, moved_lately)
        };
        let new = Holder { is_new: true, ..answer(2, 20_000) };
        let holders =
            vec![answer(0, 20_000), answer(1, 200_000), new, waiting(3, 900_000, Instant::now())];
        let flood = |flood| evicted(&relieve(holders.clone(), Levels { flood, ..NOTHING }, true));
        assert_eq!((flood(1), flood(100_001)), (vec![0], vec![0, 3]));
    }

    #[test]
    fn those_with_the_least_to_go_go_on_as_far_as_there_is_room() {
        let now = Instant::now();
        let holders = vec![
            waiting(0, 500_000, now),
            waiting(1, 4_000, now),
            waiting(2, 500_000, now - Duration::from_secs(1)),
            Holder { held: 0, ..waiting(3, 64_000, now) },
        ];
        let go_on = |room, one_goes_on| {
            let plan = relieve(holders.clone(), Levels { room, ..NOTHING }, one_goes_on);
            (going_on(&plan), plan.waiting)
        };
        assert_eq!(go_on(600_000, false), (vec![1, 2, 3], 1));
        assert_eq!(go_on(0, false), (vec![1], 3), "one, so that they do not wait for each other");
        assert_eq!(go_on(0, true), (vec![], 4));
        assert_eq!(go_on(3_000_000, true), (vec![1, 2, 0, 3], 0));
    }
}
