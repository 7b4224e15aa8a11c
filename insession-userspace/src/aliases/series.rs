//! The identifications of one address' packets over time, and what makes them.

use crate::time::Instant;

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When the probe was sent: its number was given no sooner.
    pub sent: Instant,
    /// When the answer arrived: and no later.
    pub received: Instant,
    /// The answer's identification.
    pub id: u32,
    /// The probe's.
    pub own: u32,
}

impl Sample {
    /// Whether it was numbered before `other`, whatever the network did.
    #[must_use]
    pub fn precedes(&self, other: &Sample) -> bool {
        self.received <= other.sent
    }
}

/// How wide an identification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// IPv4's.
    Sixteen,
    /// That of an IPv6 fragment header.
    ThirtyTwo,
}

impl Width {
    /// How many there are.
    #[must_use]
    pub const fn values(self) -> u64 {
        match self {
            Width::Sixteen => 1 << 16,
            Width::ThirtyTwo => 1 << 32,
        }
    }

    /// How far `to` is ahead of `from`, around the end.
    #[must_use]
    pub const fn ahead(self, from: u32, to: u32) -> u64 {
        to.wrapping_sub(from) as u64 & (self.values() - 1)
    }

    /// The longest step that is taken for one forward: what a counter takes between two
    /// samples has to be well below its range, or it could be any step.
    #[must_use]
    pub const fn longest_step(self) -> u64 {
        self.values() / 4
    }

    /// As a host of the other byte order has it.
    #[must_use]
    pub const fn swapped(self, id: u32) -> u32 {
        match self {
            Width::Sixteen => (id as u16).swap_bytes() as u32,
            Width::ThirtyTwo => id.swap_bytes(),
        }
    }
}

/// Fewer samples tell nothing.
pub const FEWEST: usize = 5;

/// What was seen of an address by probes of a kind.
#[derive(Clone, Debug)]
pub struct Series {
    width: Width,
    /// In the order in which they were sent.
    samples: Vec<Sample>,
}

/// What makes identifications.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Class {
    /// Too few answers.
    Silent,
    /// They are 0.
    Zero,
    /// They are one number.
    Constant,
    /// They are the probe's.
    Echoed,
    /// They do not advance: drawn at random, or by a counter too fast for the samples.
    Random,
    /// A counter makes them.
    Counter(Counter),
}

/// A counter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counter {
    /// How fast it advances, numbers a second.
    pub velocity: f64,
    /// It stands in packets with its octets the other way round.
    pub swapped: bool,
}

impl Class {
    /// In a word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Class::Silent => "silent",
            Class::Zero => "zero",
            Class::Constant => "constant",
            Class::Echoed => "echoed",
            Class::Random => "random",
            Class::Counter(_) => "counter",
        }
    }

    /// The counter, where it is one.
    #[must_use]
    pub const fn counter(&self) -> Option<Counter> {
        match self {
            Class::Counter(counter) => Some(*counter),
            _ => None,
        }
    }
}

impl Series {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new(width: Width) -> Self {
        Series {
            width,
            samples: Vec::new(),
        }
    }

    /// One more. Answers may come in any order.
    pub fn add(&mut self, sample: Sample) {
        let before = |it: &Sample| (it.sent, it.received) <= (sample.sent, sample.received);
        let at = self.samples.partition_point(before);
        self.samples.insert(at, sample);
    }

    /// In the order in which they were sent.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// How wide they are.
    #[must_use]
    pub const fn width(&self) -> Width {
        self.width
    }

    /// What makes them.
    #[must_use]
    pub fn class(&self) -> Class {
        let (Some(first), true) = (self.samples.first(), self.samples.len() >= FEWEST) else {
            return Class::Silent;
        };
        let all = |is: &dyn Fn(&Sample) -> bool| self.samples.iter().all(is);
        if all(&|sample| sample.id == 0) {
            return Class::Zero;
        }
        if all(&|sample| sample.id == first.id) {
            return Class::Constant;
        }
        // A counter meets a probe's number by chance once in 65,536.
        let echoed = self.samples.iter().filter(|it| {
            let own = self.width.swapped(it.own);
            it.id == it.own || it.id == own
        });
        if echoed.count() * 2 >= self.samples.len() {
            return Class::Echoed;
        }
        let counter = |swapped| {
            let velocity = self.velocity(swapped)?;
            Some(Counter { velocity, swapped })
        };
        // Read the other way round a slow counter is a fast one, or none.
        let slower = [counter(false), counter(true)].into_iter().flatten();
        match slower.min_by(|one, other| one.velocity.total_cmp(&other.velocity)) {
            Some(counter) => Class::Counter(counter),
            None => Class::Random,
        }
    }

    /// How fast they advance, if they do at every step.
    fn velocity(&self, swapped: bool) -> Option<f64> {
        let (mut advance, mut time, mut steps) = (0, 0.0, 0);
        let mut before: Option<Sample> = None;
        for sample in self.samples.iter().map(|it| read(*it, self.width, swapped)) {
            let Some(last) = before else {
                before = Some(sample);
                continue;
            };
            // Which of the two was numbered first is not known.
            if !last.precedes(&sample) {
                continue;
            }
            let step = self.width.ahead(last.id, sample.id);
            if step == 0 || step > self.width.longest_step() {
                return None;
            }
            advance += step;
            time += sample.sent.since(last.sent).as_secs_f64();
            steps += 1;
            before = Some(sample);
        }
        (steps + 1 >= FEWEST && time > 0.0).then(|| advance as f64 / time)
    }
}

/// A sample with its number as the counter had it.
#[must_use]
pub const fn read(sample: Sample, width: Width, swapped: bool) -> Sample {
    match swapped {
        true => Sample {
            id: width.swapped(sample.id),
            ..sample
        },
        false => sample,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aliases::Draw;

    /// A sample a second, 20 ms on the way.
    fn series(ids: impl IntoIterator<Item = u32>) -> Series {
        let mut series = Series::new(Width::Sixteen);
        let mut draw = Draw::new(7);
        for (nth, id) in (0_u64..).zip(ids) {
            let own = draw.below(1 << 16) as u32;
            series.add(sample(nth * 1000, id, own));
        }
        series
    }

    fn sample(at_ms: u64, id: u32, own: u32) -> Sample {
        Sample {
            sent: Instant::from_nanos(at_ms * 1_000_000),
            received: Instant::from_nanos((at_ms + 20) * 1_000_000),
            id,
            own,
        }
    }

    #[test]
    fn what_makes_identifications_is_told() {
        assert_eq!(series([1, 2, 3, 4]).class(), Class::Silent);
        assert_eq!(series([0; 9]).class(), Class::Zero);
        assert_eq!(series([77; 9]).class(), Class::Constant);
        let mut draw = Draw::new(1);
        let random = (0..10).map(|_| draw.below(1 << 16) as u32);
        assert_eq!(series(random).class(), Class::Random);
        // A counter that was asked once too often.
        assert_eq!(series([1, 2, 2, 3, 4, 5]).class(), Class::Random);
        let mut echoed = Series::new(Width::Sixteen);
        for nth in 0..9_u32 {
            echoed.add(sample(u64::from(nth) * 1000, nth * 3001, nth * 3001));
        }
        assert_eq!(echoed.class(), Class::Echoed);
    }

    #[test]
    fn a_counter_has_a_velocity_around_its_end_and_in_either_byte_order() {
        let ids = (0..10_u32).map(|nth| (64_000 + 200 * nth) & 0xffff);
        let counter = series(ids.clone()).class().counter().unwrap();
        assert!((counter.velocity - 200.0).abs() < 1e-6 && !counter.swapped);
        let swapped = ids.map(|id| Width::Sixteen.swapped(id));
        let counter = series(swapped).class().counter().unwrap();
        assert!((counter.velocity - 200.0).abs() < 1e-6 && counter.swapped);
        let wide = Width::ThirtyTwo;
        assert_eq!(wide.ahead(u32::MAX, 1), 2);
        assert_eq!(Width::Sixteen.ahead(0xffff, 1), 2);
    }

    #[test]
    fn random_numbers_are_seldom_taken_for_a_counter() {
        let mut draw = Draw::new(3);
        let taken = (0..20_000).filter(|_| {
            let ids: Vec<_> = (0..10).map(|_| draw.below(1 << 16) as u32).collect();
            series(ids).class().counter().is_some()
        });
        // One in 4^9, in either byte order.
        assert!(taken.count() <= 2);
    }

    #[test]
    fn answers_that_overtook_each_other_are_put_in_order() {
        let mut series = Series::new(Width::Sixteen);
        for nth in [3, 1, 0, 2, 5, 4_u32] {
            series.add(sample(u64::from(nth) * 1000, 10 + nth, 0));
        }
        assert!(series.class().counter().is_some());
    }
}
