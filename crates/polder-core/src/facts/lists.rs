//! The closed lists that facts draw from: evidence classes, chip vendors, number formats, certificates, licences, kinds.
//!
//! The lists and their order are a format (`docs/formats.md`): they grow at the end only. What a fact says with them is
//! absent: see [`super::Claim`].

use serde::{Deserialize, Serialize};

use crate::labels::Closed;

/// How well a fact is evidenced, from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Evidence {
    /// Declared by the operator.
    C,
    /// Signed by a third party whose key the owner trusts.
    B,
    /// Measured by the protocol.
    A,
}

/// Who makes a chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // The variants are the vendors' own names.
pub enum Vendor {
    Amd,
    Axelera,
    Cerebras,
    Google,
    Graphcore,
    Huawei,
    Intel,
    Nvidia,
    Openchip,
    Qualcomm,
    Sipearl,
    Tenstorrent,
    Vsora,
    Other,
}

/// A scheme that a site or operator is certified under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // The variants are the schemes' own names.
pub enum Certification {
    #[serde(rename = "iso-27001")]
    Iso27001,
    #[serde(rename = "iso-42001")]
    Iso42001,
    #[serde(rename = "en-50600")]
    En50600,
    Secnumcloud,
    BsiC5,
    EnsHigh,
    Hds,
}

/// A number format that a chip computes in at full speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // The variants are the formats' own names.
pub enum Precision {
    Fp64,
    Fp32,
    Tf32,
    Bf16,
    Fp16,
    Fp8,
    Fp4,
    Int8,
    Int4,
}

/// The licence that a model's weights come under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Licence {
    /// Apache 2.0.
    #[serde(rename = "apache-2.0")]
    Apache20,
    /// MIT.
    Mit,
    /// A BSD licence.
    Bsd,
    /// The European Union Public Licence 1.2.
    #[serde(rename = "eupl-1.2")]
    Eupl12,
    /// Creative Commons Attribution 4.0.
    #[serde(rename = "cc-by-4.0")]
    CcBy40,
    /// Weights that may be had, under terms that restrict who may use them or for what.
    OpenWeightsRestricted,
    /// Weights that may not be passed on.
    Proprietary,
}

/// What a fact may be about; an issuer may be trusted for some kinds only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // The variants are those of `Claim`.
pub enum Kind {
    Site,
    Operator,
    Control,
    Chip,
    Certification,
    Clearance,
    Jurisdiction,
    Personnel,
    Energy,
    ModelOrigin,
    ModelLicence,
    ModelDigest,
    ModelLanguages,
    Assessment,
}

impl Licence {
    /// Whether anyone may use, change and pass on what stands under it, for any purpose.
    pub fn is_open(self) -> bool {
        !matches!(self, Self::OpenWeightsRestricted | Self::Proprietary)
    }
}

impl Closed for Evidence {
    const NAME: &'static str = "evidence class";
    fn all() -> Vec<Self> {
        vec![Self::C, Self::B, Self::A]
    }
    fn as_str(&self) -> &'static str {
        match self {
            Self::C => "C",
            Self::B => "B",
            Self::A => "A",
        }
    }
}

impl Closed for Vendor {
    const NAME: &'static str = "chip vendor";
    fn all() -> Vec<Self> {
        use Vendor::*;
        vec![
            Amd, Axelera, Cerebras, Google, Graphcore, Huawei, Intel, Nvidia, Openchip, Qualcomm, Sipearl, Tenstorrent,
            Vsora, Other,
        ]
    }
    fn as_str(&self) -> &'static str {
        const NAMES: &[&str] = &[
            "amd", "axelera", "cerebras", "google", "graphcore", "huawei", "intel", "nvidia", "openchip", "qualcomm",
            "sipearl", "tenstorrent", "vsora", "other",
        ];
        NAMES.get(*self as usize).copied().unwrap_or("other")
    }
}

impl Closed for Certification {
    const NAME: &'static str = "certification";
    fn all() -> Vec<Self> {
        use Certification::*;
        vec![Iso27001, Iso42001, En50600, Secnumcloud, BsiC5, EnsHigh, Hds]
    }
    fn as_str(&self) -> &'static str {
        match self {
            Self::Iso27001 => "iso-27001",
            Self::Iso42001 => "iso-42001",
            Self::En50600 => "en-50600",
            Self::Secnumcloud => "secnumcloud",
            Self::BsiC5 => "bsi-c5",
            Self::EnsHigh => "ens-high",
            Self::Hds => "hds",
        }
    }
}

impl Closed for Precision {
    const NAME: &'static str = "number format";
    fn all() -> Vec<Self> {
        use Precision::*;
        vec![Fp64, Fp32, Tf32, Bf16, Fp16, Fp8, Fp4, Int8, Int4]
    }
    fn as_str(&self) -> &'static str {
        match self {
            Self::Fp64 => "fp64",
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
            Self::Fp8 => "fp8",
            Self::Fp4 => "fp4",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }
}

impl Closed for Licence {
    const NAME: &'static str = "licence";
    fn all() -> Vec<Self> {
        use Licence::*;
        vec![Apache20, Mit, Bsd, Eupl12, CcBy40, OpenWeightsRestricted, Proprietary]
    }
    fn as_str(&self) -> &'static str {
        match self {
            Self::Apache20 => "apache-2.0",
            Self::Mit => "mit",
            Self::Bsd => "bsd",
            Self::Eupl12 => "eupl-1.2",
            Self::CcBy40 => "cc-by-4.0",
            Self::OpenWeightsRestricted => "open-weights-restricted",
            Self::Proprietary => "proprietary",
        }
    }
}

impl Closed for Kind {
    const NAME: &'static str = "kind of fact";
    fn all() -> Vec<Self> {
        use Kind::*;
        vec![
            Site, Operator, Control, Chip, Certification, Clearance, Jurisdiction, Personnel, Energy, ModelOrigin,
            ModelLicence, ModelDigest, ModelLanguages, Assessment,
        ]
    }
    fn as_str(&self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Operator => "operator",
            Self::Control => "control",
            Self::Chip => "chip",
            Self::Certification => "certification",
            Self::Clearance => "clearance",
            Self::Jurisdiction => "jurisdiction",
            Self::Personnel => "personnel",
            Self::Energy => "energy",
            Self::ModelOrigin => "model-origin",
            Self::ModelLicence => "model-licence",
            Self::ModelDigest => "model-digest",
            Self::ModelLanguages => "model-languages",
            Self::Assessment => "assessment",
        }
    }
}
