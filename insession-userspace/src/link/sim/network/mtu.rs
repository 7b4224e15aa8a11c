//! Lines that not every packet fits through.

use super::super::scenario::{Rejection, RouterId, TooBig};
use super::super::truth::Fate;
use super::{Editor, Network, Position, Travel, What, Why};

impl Network {
    /// A packet is too long for the line behind its last router.
    pub(super) fn too_long(
        &mut self,
        mut travel: Box<Travel>,
        last: Option<(Position, RouterId)>,
        mtu: u16,
    ) {
        let Some((position, router)) = last else {
            return self.settle(travel.mark, Fate::Lost);
        };
        let said = match self.scenario.routers[router.0 as usize].too_big {
            TooBig::Tells => mtu,
            TooBig::Says(mtu) => mtu,
            TooBig::Vanishes => return self.settle(travel.mark, Fate::Lost),
        };
        // It is quoted as it came.
        let mut editor = Editor::new(&mut travel.packet);
        let ttl = editor.ttl();
        editor.set_ttl(ttl + 1);
        travel.position = position;
        let why = Why::Rejected(Rejection::TooBig(said));
        self.schedule(
            travel.at,
            What::Ends {
                travel,
                router,
                why,
            },
        );
    }
}
