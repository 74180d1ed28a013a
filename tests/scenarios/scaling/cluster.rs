//! Many installations on many servers: who leads what is drawn by lot, keys are spread by a hash.

use super::costs::PerJob;

/// Cores of a server that do work for streams.
pub(super) const CORES: f64 = 8.0;

/// How often the lot is drawn.
const DRAWS: usize = 100;

/// Numbers that look random and are the same on each machine (splitmix64).
pub(super) struct Lot(u64);

impl Lot {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// So many different servers; the first leads.
    fn peers(&mut self, replicas: usize, servers: usize) -> Vec<usize> {
        let mut peers = Vec::with_capacity(replicas);
        while peers.len() < replicas {
            let peer = self.below(servers);
            if !peers.contains(&peer) {
                peers.push(peer);
            }
        }
        peers
    }
}

/// A number of equal namespaces on a number of equal servers.
#[derive(Clone, Copy)]
pub(super) struct Cluster {
    pub(super) servers: usize,
    pub(super) namespaces: usize,
    pub(super) replicas: usize,
}

impl Cluster {
    /// Jobs a second with outcomes, all namespaces equally busy: in the median of the draws, and what
    /// nine of ten draws reach.
    pub(super) fn rate(self) -> (f64, f64) {
        let mut rates: Vec<f64> = (0..DRAWS).map(|draw| self.draw(draw as u64)).collect();
        rates.sort_by(f64::total_cmp);
        (rates[DRAWS / 2], rates[DRAWS / 10])
    }

    fn draw(self, seed: u64) -> f64 {
        let cost = PerJob::of(self.replicas, true);
        let mut lot = Lot::new(seed);
        let mut load = vec![0.0; self.servers];
        for _ in 0..self.namespaces {
            let jobs = lot.peers(self.replicas, self.servers);
            let consumer = jobs[lot.below(jobs.len())];
            let results = lot.peers(self.replicas, self.servers);
            load[jobs[0]] += cost.jobs;
            load[consumer] += cost.consumer;
            load[results[0]] += cost.results;
            // Stored and settled: two changes of the jobs' group, one of the outcomes'.
            jobs.iter().for_each(|peer| load[*peer] += 2.0 * cost.copy);
            results.iter().for_each(|peer| load[*peer] += cost.copy);
        }
        let hottest = load.iter().copied().fold(0.0, f64::max);
        let by_cores = CORES * 1e6 / hottest;
        let by_stream = 1e6 / cost.hottest();
        by_cores.min(by_stream) * self.namespaces as f64
    }

    /// The fewest servers that reach a rate in nine of ten draws.
    pub(super) fn servers_for(rate: f64, namespaces: usize, replicas: usize) -> Option<usize> {
        let cost = PerJob::of(replicas, true).all(replicas);
        let at_best = (rate * cost / (CORES * 1e6)).ceil() as usize;
        (at_best.max(replicas)..150).find(|servers| {
            let cluster = Self {
                servers: *servers,
                namespaces,
                replicas,
            };
            cluster.rate().1 >= rate
        })
    }
}

/// The share of all jobs that the busiest of `parts` gets, where keys are spread by a hash and the
/// n-th key is 1/n^`skew` as busy as the first; the median of several hashes.
pub(super) fn busiest_share(keys: usize, skew: f64, parts: usize) -> f64 {
    const HASHES: usize = 51;
    let weights: Vec<f64> = (1..=keys).map(|n| (n as f64).powf(-skew)).collect();
    let all: f64 = weights.iter().sum();
    let share = |hash: usize| {
        let mut lot = Lot::new(hash as u64);
        let mut load = vec![0.0; parts];
        for weight in &weights {
            load[lot.below(parts)] += weight;
        }
        load.into_iter().fold(0.0, f64::max) / all
    };
    let mut shares: Vec<f64> = (0..HASHES).map(share).collect();
    shares.sort_by(f64::total_cmp);
    shares[HASHES / 2]
}
