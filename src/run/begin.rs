//! The beginning: what the first look at the nodes means, and what earlier runs left.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::ApiError;
use crate::evidence::Named;
use crate::node::LeftOut;
use crate::puller::{
    EXPIRES_ANNOTATION, OwnerReference, Puller, PullerPodSpec, PullerStatus, RUN_LABEL,
    container_name,
};
use crate::run::place::MOST_NAMED_NODES;
use crate::run::window::Window;
use crate::run::{
    Config, GroupRun, Mode, Outcome, Phase, PullerState, Purpose, RECHECK_AFTER, Run, Sight,
    Targets, survey_for,
};
use crate::share::Share;
use crate::survey::{GroupSurvey, Lacking, Survey};
use crate::words::{nodes, some_of};

impl Run<'_> {
    pub(super) fn first_look(&mut self, survey: Survey) -> Phase {
        // Where others have something to pull, that comes first.
        self.has_unheard_of = self.config.mode == Mode::Run && self.leaves_out_unheard_of(&survey);
        // A percentage is one of all nodes.
        let shares = [self.config.max_nodes_at_once, Some(self.config.allow_missing)];
        let has_percentage = shares.iter().flatten().any(|it| matches!(it, Share::Percent(_)));
        let has_to_wait = has_percentage || survey.is_complete() || survey.n_eligible() == 0;
        if self.has_unheard_of && has_to_wait {
            return self.wait_for_news(Purpose::First);
        }
        for place in &survey.unmatchable {
            self.notes.push(format!(
                "`{}` names no registry, so that CRI-O nodes cannot be asked whether they have \
                 it: write the registry out",
                self.config.wanted[*place].image
            ));
        }
        let n_eligible = survey.n_eligible();
        let complete = survey.is_complete();
        let groups = survey.groups.iter().enumerate();
        self.groups = groups.map(|(group, it)| self.group_run(group, &it.lacking)).collect();
        for (group, found) in self.groups.iter_mut().zip(&survey.groups) {
            found.eligible.iter().for_each(|(uid, name)| group.targets.know(name, uid));
        }
        self.survey = Some(survey);
        if n_eligible == 0 {
            return self.finish(Outcome::NoNodes);
        }
        match self.config.mode {
            Mode::Check => return self.finish(Outcome::Checked),
            Mode::DryRun => return self.finish(Outcome::Planned),
            Mode::Run if complete => return self.finish(Outcome::Ready),
            Mode::Run => {}
        }
        self.window = self.config.max_nodes_at_once.map(|it| self.window_of(it.of(n_eligible)));
        self.before_placing()
    }

    /// Whether nodes are left out that may be for want of news.
    pub(super) fn leaves_out_unheard_of(&self, survey: &Survey) -> bool {
        let mut left_out = survey.groups.iter().flat_map(|it| it.left_out.values());
        left_out.any(|it| self.may_be_for_want_of_news(it))
    }

    pub(super) fn wait_for_news(&mut self, purpose: Purpose) -> Phase {
        self.fault = Some("nodes have not reported since the API server was away".into());
        self.pause = Some(RECHECK_AFTER);
        survey_for(purpose, self.config)
    }

    pub(super) fn window_of(&mut self, size: usize) -> Window {
        if size > MOST_NAMED_NODES {
            self.notes.push(format!(
                "no more than {MOST_NAMED_NODES} nodes are pulled for at once: a DaemonSet names \
                 them one by one"
            ));
        }
        Window::new(size.min(MOST_NAMED_NODES))
    }

    /// Without the right to list nodes: every node of the group gets a pod, and the pods tell the
    /// nodes' names.
    pub(super) fn start_blind(&mut self, err: &ApiError) -> Phase {
        if self.config.mode != Mode::Run {
            return self.fail(self.with_advice(err));
        }
        if self.config.max_nodes_at_once.is_some() {
            let cause = format!(
                "{err}: `--max-nodes-at-once` needs the right to list nodes: grant it, or leave \
                 the option out"
            );
            return self.finish(Outcome::Usage { cause });
        }
        self.sight = Sight::PodsAlone;
        self.notes.push(format!(
            "{err}: the puller runs on every node that the DaemonSet controller chooses, cordoned \
             ones among them; which nodes it leaves out, and why, is not known"
        ));
        self.groups = (0..self.config.groups.len()).map(|it| self.group_run(it, &[])).collect();
        self.before_placing()
    }

    pub(super) fn group_run(&self, group: usize, lacking: &[Lacking]) -> GroupRun {
        let wanted = &self.config.wanted;
        let places = self.config.groups[group].images.iter();
        let names = places.map(|&place| (container_name(place, &wanted[place].image), place));
        GroupRun {
            targets: Targets::new(lacking, names.collect()),
            puller: PullerState::None,
            made_as: PullerPodSpec::default(),
            sent_to: BTreeSet::new(),
            seen: PullerStatus::default(),
            n_remakes: 0,
            n_renewals: 0,
            no_room_since: BTreeMap::new(),
            n_short: 0,
            n_short_since: self.now.elapsed,
            refusal: None,
            stalls: BTreeMap::new(),
            with_pod: BTreeSet::new(),
            n_unplaced: 0,
            empty_since: None,
            rewritten: BTreeSet::new(),
        }
    }

    pub(super) fn before_placing(&self) -> Phase {
        match self.owning_job() {
            Some(owner) => Phase::ReadJob { name: owner.name.clone() },
            None => leftovers(),
        }
    }

    /// The Job that owns the pullers: that of the hook.
    pub(super) fn owning_job(&self) -> Option<&OwnerReference> {
        self.config.owner.as_ref().filter(|it| it.kind == "Job")
    }

    /// An expired puller of the same name from another run.
    pub(super) fn expired(&self, puller: &Puller) -> Option<Named> {
        let meta = &puller.metadata;
        let expires = meta.annotations.get(EXPIRES_ANNOTATION)?;
        let expires = humantime::parse_rfc3339_weak(expires).ok()?;
        (expires < self.now.server && !self.is_of_this_run(puller))
            .then(|| Named { name: meta.name.clone(), uid: meta.uid.clone() })
    }

    pub(super) fn is_of_this_run(&self, puller: &Puller) -> bool {
        puller.metadata.labels.get(RUN_LABEL) == Some(&self.config.id)
    }

    pub(super) fn remove_leftovers(&mut self, mut expired: Vec<Named>) -> Phase {
        if let Some(leftover) = expired.pop() {
            return Phase::RemoveLeftover { leftover, rest: expired };
        }
        if self.window.is_none() {
            self.to_place = (0..self.groups.len()).filter(|&it| !self.is_done(it)).collect();
        }
        self.fill_window();
        self.place_next()
    }
}

/// Says that the images of a group have no node, and why; once for all groups that go to the same
/// nodes.
pub(super) fn no_place(config: &Config, index: usize, found: &GroupSurvey) -> Option<String> {
    let placement = &config.groups[index].placement;
    if config.groups[..index].iter().any(|it| it.placement == *placement) {
        return None;
    }
    let alike = config.groups.iter().filter(|it| it.placement == *placement);
    let images: BTreeSet<_> = alike.flat_map(|it| it.images.iter().copied()).collect();
    let images: Vec<_> =
        images.into_iter().map(|place| format!("`{}`", config.wanted[place].image)).collect();
    let mut n_by_reason: BTreeMap<&LeftOut, usize> = BTreeMap::new();
    for why in found.left_out.values() {
        *n_by_reason.entry(why).or_default() += 1;
    }
    let reasons: Vec<_> =
        n_by_reason.iter().map(|(why, n_nodes)| format!("{}: {why}", nodes(*n_nodes))).collect();
    let images = some_of(images.iter().map(String::as_str));
    Some(format!("no node may run the pods of {images} ({})", reasons.join(", ")))
}

pub(super) fn leftovers() -> Phase {
    Phase::Leftovers { from: None, expired: vec![] }
}
