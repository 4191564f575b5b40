"""The sign-off (RE-03): which bundle a release is signed with, and how anybody checks it again with no network."""
