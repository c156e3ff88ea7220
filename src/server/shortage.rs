//! What is done when clients make the server hold more memory than it should: who gives some up,
//! and who goes on all the same. Decisions only: the sweep finds the connections, and has them
//! driven.

use std::cmp::Reverse;
use std::time::Instant;

use super::service::Token;

/// A connection makes progress if it moves what it holds in at most so many periods of the sweep.
const PERIODS_FOR_ALL: u64 = 8;
/// Every so many times the one that has waited the longest goes on, whatever it holds.
const LONGEST_WAITING_EVERY: u64 = 2;

/// A connection that holds memory.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) token: Token,
    pub(super) held: usize,
    /// Bytes in both directions, since it was opened and in the last one or two periods.
    pub(super) moved: u64,
    pub(super) moved_lately: u64,
    /// It has not held any for long enough to be judged by that.
    pub(super) is_new: bool,
    /// Since when it has waited for memory, if it does.
    pub(super) waits_since: Option<Instant>,
}

/// How many bytes too many are held: by the bound, by far, and by more than there is room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels {
    pub(super) shortage: usize,
    pub(super) excess: usize,
    pub(super) flood: usize,
}

/// Who is asked for what.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) evicted: Vec<Holder>,
    pub(super) exempt: Option<Token>,
}

impl Holder {
    /// Bytes held for each that was moved lately.
    fn cost(&self) -> u64 {
        self.held as u64 / (self.moved_lately + 1)
    }

    fn is_stalled(&self) -> bool {
        !self.is_new && self.moved_lately.saturating_mul(PERIODS_FOR_ALL) < self.held as u64
    }
}

/// Takes memory from those that hold the most for the least progress, as many as it takes. Where
/// far too much is held, others follow that hold more than they move, the new ones last, and in the
/// end those that wait for more, the longest waiting first.
///
/// One of those that wait goes on all the same (`turn` counts the looks), so that not all wait for
/// each other: the one that holds the least, since it is likely to be done soonest, or every other
/// time the one that has waited the longest.
pub(super) fn relieve(holders: Vec<Holder>, levels: Levels, may_exempt: bool, turn: u64) -> Plan {
    let (mut waiting, mut others): (Vec<_>, Vec<_>) = holders
        .into_iter()
        .partition(|holder| holder.waits_since.is_some() && !holder.is_stalled());
    others.sort_unstable_by_key(|holder| {
        (!holder.is_stalled(), holder.is_new, Reverse(holder.cost()))
    });
    waiting.sort_unstable_by_key(|holder| holder.waits_since);
    let mut plan = Plan::default();
    let mut freed = 0;
    for holder in others {
        let wanted = if holder.is_stalled() { levels.shortage } else { levels.excess };
        if freed < wanted && holder.cost() > 0 {
            freed += holder.held;
            plan.evicted.push(holder);
        }
    }
    let mut waiting = waiting.into_iter().peekable();
    while freed < levels.flood
        && let Some(holder) = waiting.next()
    {
        freed += holder.held;
        plan.evicted.push(holder);
    }
    if may_exempt {
        let longest_waiting = waiting.peek().map(|holder| holder.token);
        let least_holding = waiting.min_by_key(|holder| holder.held).map(|holder| holder.token);
        plan.exempt = if turn.is_multiple_of(LONGEST_WAITING_EVERY) {
            longest_waiting
        } else {
            least_holding
        };
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOTHING: Levels = Levels { shortage: 0, excess: 0, flood: 0 };

    fn holder(place: u32, held: usize, moved_lately: u64) -> Holder {
        let token = Token { place, generation: 0 };
        Holder { token, held, moved: 0, moved_lately, is_new: false, waits_since: None }
    }

    fn waiting(place: u32, held: usize, since: Instant) -> Holder {
        Holder { waits_since: Some(since), ..holder(place, held, held as u64) }
    }

    fn places(plan: &Plan) -> Vec<u32> {
        plan.evicted.iter().map(|holder| holder.token.place).collect()
    }

    #[test]
    fn stalled_go_first_and_no_more_than_it_takes() {
        let holders = vec![
            holder(0, 50_000, 40_000),
            holder(1, 60_000, 10),
            holder(2, 60_000, 0),
            holder(3, 9_000, 0),
        ];
        let plan = relieve(holders, Levels { shortage: 100_000, ..NOTHING }, true, 1);
        assert_eq!((places(&plan), plan.exempt), (vec![2, 3, 1], None));
    }

    #[test]
    fn progress_is_left_alone_below_an_excess() {
        let new = Holder { is_new: true, ..holder(1, 90_000, 0) };
        let holders = vec![holder(0, 50_000, 10_000), new, holder(2, 50_000, 60_000)];
        let shortage = Levels { shortage: 500_000, ..NOTHING };
        assert_eq!(places(&relieve(holders.clone(), shortage, false, 1)), [0_u32; 0]);
        let excess = Levels { excess: 100_000, ..shortage };
        assert_eq!(
            places(&relieve(holders, excess, false, 1)),
            [0, 1],
            "never the one that moves more than it holds"
        );
    }

    #[test]
    fn stalled_are_not_spared_for_waiting() {
        let stalled = Holder { moved_lately: 1, ..waiting(0, 50_000, Instant::now()) };
        assert_eq!(
            places(&relieve(vec![stalled], Levels { shortage: 1, ..NOTHING }, true, 1)),
            [0]
        );
    }

    #[test]
    fn waiting_go_in_a_flood_only() {
        let now = Instant::now();
        let holders =
            vec![waiting(0, 50_000, now), waiting(1, 50_000, now - Duration::from_secs(1))];
        let levels = Levels { shortage: 500_000, excess: 500_000, flood: 10_000 };
        assert_eq!(places(&relieve(holders.clone(), levels, true, 1)), [1]);
        assert_eq!(places(&relieve(holders, Levels { flood: 0, ..levels }, true, 1)), [0_u32; 0]);
    }

    #[test]
    fn least_holding_goes_on_and_in_turn_the_longest_waiting() {
        let now = Instant::now();
        let holders =
            vec![waiting(0, 4_000, now), waiting(1, 50_000, now - Duration::from_secs(1))];
        let exempt =
            |turn| relieve(holders.clone(), NOTHING, true, turn).exempt.map(|token| token.place);
        assert_eq!(
            [exempt(1), exempt(2), exempt(3), exempt(4)],
            [Some(0), Some(1), Some(0), Some(1)]
        );
        assert_eq!(relieve(holders.clone(), NOTHING, false, 1).exempt, None);
    }
}
