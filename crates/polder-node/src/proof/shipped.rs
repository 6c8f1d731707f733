//! The claims and policies that are part of the binary, by name.
//!
//! The files are in `claims/`, `templates/` and `demo/policies/`; a test holds this list against the folder. Reading files is
//! absent: whoever has others reads them.

use polder_core::policy::LABELS_POLICY;

use super::LABELS;

/// Every claim in `claims/`: its name and its text.
pub const SHIPPED_CLAIMS: &[(&str, &str)] = &[
    ("bank-can-serve-customers", include_str!("../../../../claims/bank-can-serve-customers.toml")),
    ("bank-control-is-attested", include_str!("../../../../claims/bank-control-is-attested.toml")),
    ("bank-customer-data-certified", include_str!("../../../../claims/bank-customer-data-certified.toml")),
    ("bank-customer-data-in-the-eu", include_str!("../../../../claims/bank-customer-data-in-the-eu.toml")),
    ("bank-never-errors", include_str!("../../../../claims/bank-never-errors.toml")),
    ("bank-never-wider-than-baseline", include_str!("../../../../claims/bank-never-wider-than-baseline.toml")),
    ("bank-no-dead-rule", include_str!("../../../../claims/bank-no-dead-rule.toml")),
    ("bank-no-foreign-share-in-control", include_str!("../../../../claims/bank-no-foreign-share-in-control.toml")),
    ("bank-no-redundant-rule", include_str!("../../../../claims/bank-no-redundant-rule.toml")),
    (
        "bank-no-us-control-of-customer-data",
        include_str!("../../../../claims/bank-no-us-control-of-customer-data.toml"),
    ),
    ("bank-no-us-site-for-customer-data", include_str!("../../../../claims/bank-no-us-site-for-customer-data.toml")),
    ("bank-operator-in-the-eu", include_str!("../../../../claims/bank-operator-in-the-eu.toml")),
    ("bank-personal-data-in-the-eea", include_str!("../../../../claims/bank-personal-data-in-the-eea.toml")),
    (
        "bank-personal-data-in-the-eea-or-adequate",
        include_str!("../../../../claims/bank-personal-data-in-the-eea-or-adequate.toml"),
    ),
    ("baseline-no-dead-rule", include_str!("../../../../claims/baseline-no-dead-rule.toml")),
    ("baseline-site-attested", include_str!("../../../../claims/baseline-site-attested.toml")),
    ("clearance-can-run-restricted-data", include_str!("../../../../claims/clearance-can-run-restricted-data.toml")),
    ("clearance-never-only-declared", include_str!("../../../../claims/clearance-never-only-declared.toml")),
    (
        "clearance-restricted-data-in-the-eu",
        include_str!("../../../../claims/clearance-restricted-data-in-the-eu.toml"),
    ),
    ("defence-can-run-restricted-data", include_str!("../../../../claims/defence-can-run-restricted-data.toml")),
    ("defence-no-redundant-rule", include_str!("../../../../claims/defence-no-redundant-rule.toml")),
    ("defence-restricted-data-in-the-eu", include_str!("../../../../claims/defence-restricted-data-in-the-eu.toml")),
    (
        "defence-restricted-data-with-cleared-people",
        include_str!("../../../../claims/defence-restricted-data-with-cleared-people.toml"),
    ),
    ("eea-only-can-serve", include_str!("../../../../claims/eea-only-can-serve.toml")),
    ("eea-only-no-redundant-rule", include_str!("../../../../claims/eea-only-no-redundant-rule.toml")),
    ("eea-only-no-wider-than-start-up", include_str!("../../../../claims/eea-only-no-wider-than-start-up.toml")),
    ("eea-only-nobody-outside-has-access", include_str!("../../../../claims/eea-only-nobody-outside-has-access.toml")),
    ("eea-only-stays-in-the-eea", include_str!("../../../../claims/eea-only-stays-in-the-eea.toml")),
    ("eu-control-no-redundant-rule", include_str!("../../../../claims/eu-control-no-redundant-rule.toml")),
    ("eu-control-no-us-control", include_str!("../../../../claims/eu-control-no-us-control.toml")),
    ("eu-control-no-us-court", include_str!("../../../../claims/eu-control-no-us-court.toml")),
    ("eu-control-operator-in-the-eu", include_str!("../../../../claims/eu-control-operator-in-the-eu.toml")),
    ("image-lab-model-at-named-sites", include_str!("../../../../claims/image-lab-model-at-named-sites.toml")),
    (
        "image-lab-never-wider-than-start-up",
        include_str!("../../../../claims/image-lab-never-wider-than-start-up.toml"),
    ),
    ("model-custody-can-train-own-model", include_str!("../../../../claims/model-custody-can-train-own-model.toml")),
    (
        "model-custody-no-proprietary-models",
        include_str!("../../../../claims/model-custody-no-proprietary-models.toml"),
    ),
    ("model-custody-no-redundant-rule", include_str!("../../../../claims/model-custody-no-redundant-rule.toml")),
    (
        "model-custody-own-models-at-named-sites",
        include_str!("../../../../claims/model-custody-own-models-at-named-sites.toml"),
    ),
    (
        "model-custody-weights-under-eu-control",
        include_str!("../../../../claims/model-custody-weights-under-eu-control.toml"),
    ),
    (
        "no-fallback-outside-the-named-countries",
        include_str!("../../../../claims/no-fallback-outside-the-named-countries.toml"),
    ),
    ("open-for-public-data-never-errors", include_str!("../../../../claims/open-for-public-data-never-errors.toml")),
    (
        "open-for-public-data-no-foreign-majority",
        include_str!("../../../../claims/open-for-public-data-no-foreign-majority.toml"),
    ),
    (
        "open-for-public-data-rest-in-the-eea",
        include_str!("../../../../claims/open-for-public-data-rest-in-the-eea.toml"),
    ),
    (
        "open-for-public-data-serves-the-united-states",
        include_str!("../../../../claims/open-for-public-data-serves-the-united-states.toml"),
    ),
    ("start-up-in-the-eea", include_str!("../../../../claims/start-up-in-the-eea.toml")),
    ("vendor-share-bounded", include_str!("../../../../claims/vendor-share-bounded.toml")),
    ("vendor-share-can-serve", include_str!("../../../../claims/vendor-share-can-serve.toml")),
    ("vendor-share-never-errors", include_str!("../../../../claims/vendor-share-never-errors.toml")),
    ("vendor-share-no-dead-rule", include_str!("../../../../claims/vendor-share-no-dead-rule.toml")),
];

/// Every policy that claims may name: its name and its text.
pub const SHIPPED_POLICIES: &[(&str, &str)] = &[
    (LABELS, LABELS_POLICY),
    ("bank", include_str!("../../../../demo/policies/bank.cedar")),
    ("baseline", include_str!("../../../../demo/policies/baseline.cedar")),
    ("defence", include_str!("../../../../demo/policies/defence.cedar")),
    ("image-lab", include_str!("../../../../demo/policies/image-lab.cedar")),
    ("start-up", include_str!("../../../../demo/policies/start-up.cedar")),
    ("eea-only", include_str!("../../../../templates/eea-only.cedar")),
    ("eu-control", include_str!("../../../../templates/eu-control.cedar")),
    ("model-custody", include_str!("../../../../templates/model-custody.cedar")),
    ("named-countries-and-clearance", include_str!("../../../../templates/named-countries-and-clearance.cedar")),
    ("open-for-public-data", include_str!("../../../../templates/open-for-public-data.cedar")),
    ("vendor-share", include_str!("../../../../templates/vendor-share.cedar")),
];

/// The text of a policy that is part of the binary.
pub fn shipped_policy(name: &str) -> Option<&'static str> {
    SHIPPED_POLICIES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
