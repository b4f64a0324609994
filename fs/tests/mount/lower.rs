//! What an image holds is never changed through a mount, in whichever way it is written.
