//! The same deciding code in virtual time: scenarios now, drills and studies later. The clock and the network are arguments.
