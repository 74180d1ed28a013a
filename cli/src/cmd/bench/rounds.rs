//! Rounds: each side once, in an order that changes, the first ones not counted.

use super::progress::Progress;

/// The rounds of one measurement.
pub(crate) struct Rounds {
    counted: u32,
    warmup: u32,
}

/// One round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// From 0, over all.
    pub(crate) number: u32,
    /// Whether it is one that counts.
    pub(crate) counts: bool,
}

impl Rounds {
    pub(crate) fn new(counted: u32, warmup: u32) -> Self {
        Self { counted, warmup }
    }

    /// All of them in order.
    pub(crate) fn each(&self) -> impl Iterator<Item = Round> + use<> {
        let warmup = self.warmup;
        (0..self.counted + warmup).map(move |number| Round {
            number,
            counts: number >= warmup,
        })
    }

    /// The progress of so many steps a round.
    pub(crate) fn progress(&self, steps: usize, silent: bool) -> Progress {
        let rounds = u64::from(self.counted + self.warmup);
        Progress::new(rounds * steps as u64, silent)
    }
}

impl Round {
    /// The sides in this round's order: who goes first changes from round to round.
    pub(crate) fn order<S: Copy>(self, sides: &[S]) -> Vec<S> {
        let mut sides = sides.to_vec();
        if !sides.is_empty() {
            let first = self.number as usize % sides.len();
            sides.rotate_left(first);
        }
        sides
    }
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.counts {
            true => write!(f, "round {}", self.number),
            false => write!(f, "round {} (warm-up)", self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_goes_first_in_turn_and_warm_ups_do_not_count() {
        let rounds: Vec<Round> = Rounds::new(2, 1).each().collect();
        let counts: Vec<bool> = rounds.iter().map(|round| round.counts).collect();
        assert_eq!(counts, [false, true, true]);
        let firsts: Vec<char> = rounds.iter().map(|it| it.order(&['a', 'b'])[0]).collect();
        assert_eq!(firsts, ['a', 'b', 'a']);
    }
}
