//! A row: what the policies say of one request at every factory. The only place that asks Cedar for a decision.
//!
//! A row holds a bit for each factory and, for each no, which rules said it: enough to write every cause again without
//! asking anew. Load, price and reachability are absent: they change faster than any policy.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::bits::Bits;
use super::{ACTION_NOT_OFFERED, Basis, Ground, MODEL_NOT_SERVED};
use crate::labels::Closed as _;
use crate::policy::{Case, Cause, Layer, LayerKind, PolicySchema, Question, Refusal, ask};
use crate::request::Request;

/// What the policies say of one request at every factory of a basis.
#[derive(Debug, Clone)]
pub struct Row {
    basis: Arc<Basis>,
    request: Request,
    cases: Arc<[Case]>,
    questions: Arc<Questions>,
    admitted: Bits,
    nos: Box<[No]>,
}

/// Why one factory is refused; empty where it is not.
#[derive(Debug, Clone, Default)]
pub(super) struct No {
    /// Layer and rule by their places.
    pub(super) rules: Box<[(u8, u16)]>,
    /// What no rule says: evaluation errors, no permit, nothing offered.
    pub(super) others: Box<[Cause]>,
}

impl Row {
    /// Asks every layer about every factory.
    pub fn new(basis: &Arc<Basis>, request: &Request) -> Self {
        let cases = cases(request);
        let questions = Arc::new(questions(&cases, &basis.schema));
        let nos = basis.grounds.iter().map(|ground| ask_all(basis, ground, &questions, request)).collect();
        Self::of(basis, request, cases.into(), questions, nos)
    }

    /// The same request on another basis: only where the layers or a factory's column, terms or offers differ are they
    /// asked again.
    pub fn renew(&self, basis: &Arc<Basis>) -> Self {
        if Arc::ptr_eq(&self.basis, basis) {
            return self.clone();
        }
        if !self.basis.same_layers(basis) {
            return Self::new(basis, &self.request);
        }
        let known = |ground: &Ground| {
            let place = self.basis.grounds.binary_search_by(|one| one.id.cmp(&ground.id)).ok()?;
            self.basis.grounds.get(place).filter(|before| before.same(ground))?;
            self.nos.get(place).cloned()
        };
        let no = |ground: &Ground| known(ground).unwrap_or_else(|| self.ask_again(basis, ground));
        let nos = basis.grounds.iter().map(no).collect();
        Self::of(basis, &self.request, Arc::clone(&self.cases), Arc::clone(&self.questions), nos)
    }

    fn of(
        basis: &Arc<Basis>,
        request: &Request,
        cases: Arc<[Case]>,
        questions: Arc<Questions>,
        nos: Box<[No]>,
    ) -> Self {
        let mut admitted = Bits::none(nos.len());
        for (place, no) in nos.iter().enumerate() {
            if no.rules.is_empty() && no.others.is_empty() {
                admitted.insert(place);
            }
        }
        Self { basis: Arc::clone(basis), request: request.clone(), cases, questions, admitted, nos }
    }

    /// Whether it was made on this basis for this request.
    pub(super) fn is_for(&self, basis: &Arc<Basis>, request: &Request) -> bool {
        Arc::ptr_eq(&self.basis, basis) && self.request == *request
    }

    /// The factories that every layer permits and that offer what is asked for.
    pub fn admitted(&self) -> &Bits {
        &self.admitted
    }

    /// The request that they were asked about.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The basis on which the layers were asked.
    pub fn basis(&self) -> &Arc<Basis> {
        &self.basis
    }

    /// Every reason that policies and offers give against a factory.
    pub fn causes(&self, place: usize) -> BTreeSet<Cause> {
        let (Some(no), Some(ground)) = (self.nos.get(place), self.basis.grounds.get(place)) else {
            return BTreeSet::new();
        };
        let layers = self.basis.layers(ground);
        let mut causes: BTreeSet<Cause> = no.others.iter().cloned().collect();
        for (layer, rule) in &no.rules {
            let layer = layers.get(usize::from(*layer));
            // A rule reads the same of a factory whatever the purpose.
            let cause =
                layer.zip(self.cases.first()).and_then(|(layer, case)| layer.cause(*rule, &ground.column, case));
            causes.extend(cause);
        }
        causes
    }

    /// The same answer for another request; only tests want that.
    #[cfg(test)]
    pub fn of_request(&self, request: Request) -> Self {
        Self { request, ..self.clone() }
    }

    /// Asks every layer about a factory that is not, or not so, in the basis.
    pub(super) fn ask_again(&self, basis: &Basis, ground: &Ground) -> No {
        ask_all(basis, ground, &self.questions, &self.request)
    }

    /// Why a factory is refused, by numbers.
    pub(super) fn no(&self, place: usize) -> Option<&No> {
        self.nos.get(place)
    }

    /// About how much memory the row takes, in bytes.
    pub fn bytes(&self) -> usize {
        let no = |no: &No| {
            no.rules.len() * size_of::<(u8, u16)>() + no.others.len() * (size_of::<Cause>() + 128) + size_of::<No>()
        };
        self.nos.iter().map(no).sum::<usize>() + self.admitted.words().len() * 8 + size_of::<Self>() + 256
    }
}

/// A request is asked about once for each purpose it may have; all must be permitted.
pub(super) fn cases(request: &Request) -> Vec<Case> {
    let case = |purpose| Case {
        action: request.action,
        tenant: request.tenant.clone(),
        project: request.project.clone(),
        model: request.model.clone(),
        class: request.labels.class,
        purpose,
        countries: request.labels.countries.clone(),
        language: request.labels.language,
    };
    request.labels.purposes.iter().copied().map(case).collect()
}

/// A request's cases, made ready, or why that failed.
type Questions = Result<Vec<Question>, String>;

/// Makes the cases of a request ready.
fn questions(cases: &[Case], schema: &PolicySchema) -> Questions {
    cases.iter().map(|case| Question::new(case.clone(), schema)).collect()
}

/// Asks every layer about one factory.
fn ask_all(basis: &Basis, ground: &Ground, questions: &Questions, request: &Request) -> No {
    let (mut rules, mut others) = (BTreeSet::new(), BTreeSet::new());
    let layers = basis.layers(ground);
    let mut take = |refusals: Vec<Refusal>| {
        for (number, refusal) in (0..).zip(refusals) {
            rules.extend(refusal.rules.into_iter().map(|rule| (number, rule)));
            others.extend(refusal.others);
        }
    };
    match questions {
        Ok(questions) => questions.iter().for_each(|question| take(ask(&layers, &ground.column, question))),
        Err(message) => take(layers.map(|layer| layer.unasked(message.clone())).into()),
    }
    if questions.as_ref().is_ok_and(Vec::is_empty) {
        others.extend(layers.map(no_purpose));
    }
    if !ground.offers.contains(&(request.action, request.model.clone())) {
        others.insert(not_offered(request));
    }
    No { rules: rules.into_iter().collect(), others: others.into_iter().collect() }
}

pub(super) fn no_purpose(layer: &Layer) -> Cause {
    Cause::built_in(layer.kind(), "no-purpose", "no rule can be asked without a purpose")
}

fn not_offered(request: &Request) -> Cause {
    let with = if request.model.is_some() { " with this model" } else { "" };
    let reason = format!("the factory does not offer `{}`{with}", request.action.as_str());
    let rule = if request.model.is_some() { MODEL_NOT_SERVED } else { ACTION_NOT_OFFERED };
    Cause::built_in(LayerKind::Availability, rule, reason)
}
