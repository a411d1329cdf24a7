//! From samples to a figure, and whether it can be trusted.

use serde::{Deserialize, Serialize};

/// Samples that a figure needs at least.
pub(crate) const SAMPLES: usize = 3;

/// Samples after which it is given up.
pub(crate) const SAMPLES_MAX: usize = 11;

/// How far the samples of a figure may be from it, as a part of it.
pub(crate) const SPREAD_MAX: f64 = 0.01;

/// A figure, and what it is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    /// The median of those samples that lie closest together.
    pub(crate) value: f64,
    /// Half the distance between the smallest and the largest of those, as a part of `value`.
    pub(crate) spread: f64,
    /// All samples, in the order in which they were taken.
    pub(crate) samples: Vec<f64>,
}

impl Estimate {
    /// Estimates from samples: at least one of them, all of them finite.
    ///
    /// Noise here is one-sided and rare: a timer, a page that had to be fetched, a journal that wrapped. It spoils single
    /// samples and leaves the others alike. So a figure is that of the closest majority of the samples (the *shortest
    /// half*): of three all three, of five three and so on. `None` without samples.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let majority = if sorted.len() <= SAMPLES {
            sorted.len()
        } else {
            sorted.len() / 2 + 1
        };
        let width = |window: &&[f64]| window[window.len() - 1] - window[0];
        let closest = sorted
            .windows(majority.max(1))
            .min_by(|a, b| width(a).total_cmp(&width(b)))?;
        let value = median(closest);
        Some(Estimate {
            value,
            spread: if value == 0.0 {
                0.0
            } else {
                width(&closest) / 2.0 / value.abs()
            },
            samples: samples.to_vec(),
        })
    }

    /// Whether it may be reported.
    pub(crate) fn is_settled(&self) -> bool {
        self.samples.len() >= SAMPLES && self.spread <= SPREAD_MAX
    }
}

/// The middle of sorted values, of which there is at least one.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_samples_all_count() {
        let estimate = Estimate::of(&[102.0, 100.0, 98.0]).unwrap();
        assert!((estimate.value - 100.0).abs() < 1e-9);
        assert!((estimate.spread - 0.02).abs() < 1e-9);
        assert!(!estimate.is_settled());
    }

    #[test]
    fn of_more_than_three_the_closest_majority_counts() {
        let estimate = Estimate::of(&[130.0, 100.0, 100.5, 90.0, 101.0]).unwrap();
        assert!((estimate.value - 100.5).abs() < 1e-9);
        assert!((estimate.spread - 0.5 / 100.5).abs() < 1e-9);
        assert!(estimate.is_settled());
        assert_eq!(estimate.samples.len(), 5);
    }

    #[test]
    fn an_even_number_has_its_middle_between_two() {
        let estimate = Estimate::of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        // A majority of six is four.
        assert!((estimate.value - 2.5).abs() < 1e-9);
    }

    #[test]
    fn two_samples_are_too_few_however_alike() {
        assert!(!Estimate::of(&[5.0, 5.0]).unwrap().is_settled());
        assert!(Estimate::of(&[5.0, 5.0, 5.0]).unwrap().is_settled());
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert_eq!(Estimate::of(&[]), None);
    }

    #[test]
    fn one_bad_of_three_is_refused_and_two_more_good_ones_help() {
        assert!(!Estimate::of(&[100.0, 100.0, 110.0]).unwrap().is_settled());
        assert!(
            Estimate::of(&[100.0, 100.0, 110.0, 100.1, 100.2])
                .unwrap()
                .is_settled()
        );
    }
}
