//! Counts of things that should not be there, in the records and in the figures of probes.

use std::collections::BTreeMap;

use super::judge::ClaimJudge;
use crate::experiment::claims::question::{CountCheck, ProbeCount};
use crate::experiment::service::SPANS;
use crate::record::claims::TlsAttempt;
use crate::record::probes::{ProbeFigures, ProbeFinding};
use crate::record::records::LaneRecord;

/// How many are wrong, and of how many.
type Count = (f64, f64);

fn count(wrong: u64, of: u64) -> Count {
    (wrong as f64, of as f64)
}

impl ClaimJudge<'_> {
    /// The count of a check, in each round.
    pub(super) fn count(&self, check: &CountCheck) -> Result<Vec<Count>, String> {
        match *check {
            CountCheck::LostSpans { arm } => self.run.each(arm, lost_spans),
            CountCheck::WrongTraces { source, arm } => self.source(source)?.each(arm, |lane| {
                let trees = &lane.received.as_ref()?.trees;
                Some(count(trees.wrong(), trees.traces))
            }),
            CountCheck::LeakedTexts { source, arm } => self.source(source)?.each(arm, |lane| {
                let leaked = &lane.received.as_ref()?.leaked;
                Some(count(leaked.values().filter(|payloads| **payloads > 0).count() as u64, leaked.len() as u64))
            }),
            CountCheck::ExtraSpans { source, arm } => self.source(source)?.each(arm, |lane| {
                let orders = lane.orders_completed;
                let extra = lane.received.as_ref()?.spans.saturating_sub(orders * SPANS.len() as u64);
                Some(count(extra, orders))
            }),
            CountCheck::SpansOfOtherServices { source, arm, service } => self.source(source)?.each(arm, |lane| {
                let received = lane.received.as_ref()?;
                let named = received.services.get(service).copied().unwrap_or(0);
                Some(count(received.spans.saturating_sub(named), received.spans))
            }),
            CountCheck::LanesWithoutAttribute { source, arm, attribute: (name, value) } => {
                self.source(source)?.each(arm, |lane| {
                    let resource = &lane.received.as_ref()?.resource;
                    Some(count(u64::from(resource.get(name).is_none_or(|found| found != value)), 1))
                })
            }
            CountCheck::ExtraSeries { source, arm, other } => {
                let cached = self.source(source)?;
                let series = |lane: &LaneRecord| Some((lane.round, lane.received.as_ref()?.metrics.series));
                let without: BTreeMap<u32, u64> = cached.each(other, series)?.into_iter().collect();
                let with = cached.each(arm, series)?.into_iter();
                Ok(with.filter_map(|(round, n)| Some(count(n.saturating_sub(*without.get(&round)?), n))).collect())
            }
            CountCheck::UnauthorisedClients => accepted_clients(&self.evidence.tls_attempts).map(|count| vec![count]),
            CountCheck::InstallsWithoutPanic { probe, installs } => {
                self.installs_without_panic(probe, installs.into()).map(|count| vec![count])
            }
            CountCheck::Probe { probe, count } => {
                let counted = probe_count(count, &self.finding(probe)?.seen.figures);
                Ok(vec![counted.ok_or_else(|| format!("the probe `{probe}` lacks a figure"))?])
            }
        }
    }

    fn finding(&self, probe: &str) -> Result<&ProbeFinding, String> {
        let finding = self.evidence.findings.iter().find(|finding| finding.probe == probe);
        finding.ok_or_else(|| format!("the probe `{probe}` was not carried out"))
    }

    fn installs_without_panic(&self, probe: &str, installs: u64) -> Result<Count, String> {
        match (self.finding(probe), self.evidence.unprobed.get(probe)) {
            (Ok(_), _) => Ok(count(installs, installs)),
            (Err(_), Some(why)) if why.contains("panicked") => Ok(count(0, installs)),
            (Err(why), _) => Err(why),
        }
    }
}

fn lost_spans(lane: &LaneRecord) -> Option<Count> {
    let (ended, received) = (lane.account.spans?.ended, lane.received.as_ref()?.spans);
    Some(count(ended.saturating_sub(received), ended))
}

/// The unauthorised clients that a receiver accepted. A receiver that accepts nobody proves nothing.
fn accepted_clients(attempts: &[TlsAttempt]) -> Result<Count, String> {
    let (unauthorised, authorised): (Vec<_>, Vec<_>) = attempts.iter().partition(|attempt| attempt.unauthorised);
    if authorised.is_empty() || authorised.iter().any(|attempt| attempt.received < attempt.ended) {
        return Err("the client with the right certificate was not accepted either".into());
    }
    let accepted = unauthorised.iter().filter(|attempt| attempt.received > 0).count();
    Ok(count(accepted as u64, unauthorised.len() as u64))
}

/// A count among the figures of a probe; `None` where a figure is missing.
fn probe_count(which: ProbeCount, figures: &ProbeFigures) -> Option<Count> {
    let figure = |name: &str| figures.get(name).copied();
    // An error of the flush or the shutdown reports every loss.
    let no_error = || Some(figure("flush_ok")? + figure("shutdown_ok")? >= 2.0);
    Some(match which {
        ProbeCount::WrongParents => (figure("wrong_parents")?, figure("requests")?),
        ProbeCount::InstallsWithoutError => (2.0 - figure("refused")?, 2.0),
        ProbeCount::UnreportedLosses => {
            let lost = figure("lost")?;
            let counted = figure("told")?;
            (if no_error()? { lost - counted } else { 0.0 }, lost)
        }
        ProbeCount::UnreportedDrops => {
            let dropped = figure("dropped")?;
            (if no_error()? { dropped } else { 0.0 }, dropped)
        }
        ProbeCount::UnloggedDrops => (figure("dropped")? - figure("logged")?, figure("dropped")?),
    })
}
