use spa_proto::UnixTime;

use super::*;

/// A client and the gateway's clocks, moved by hand.
struct Scene {
    guard: CodeGuard,
    secret: OneTimeCode,
    now: Moment,
}

/// In the middle of a step, so that half a minute on is the next one.
const START: u64 = 1_800_000_015;

impl Scene {
    fn new() -> Self {
        Self {
            guard: CodeGuard::default(),
            secret: OneTimeCode::parse("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", 6).unwrap(),
            now: Moment {
                wall: UnixTime::from_secs(START),
                uptime: Duration::from_secs(500),
            },
        }
    }

    fn pass(&mut self, seconds: u64) {
        let length = Duration::from_secs(seconds);
        self.now.wall = self.now.wall.saturating_add(length);
        self.now.uptime += length;
    }

    /// The right code of the step that lies so many steps from the present one.
    fn right(&self, steps: i64) -> Code {
        let step = (self.now.wall.as_secs() / 30).checked_add_signed(steps).unwrap();
        Code::new(totp::at(&self.secret, step).unwrap()).unwrap()
    }

    fn send(&mut self, code: Code) -> Result<(), CodeError> {
        self.guard.judge(self.now, &self.secret, Some(code))
    }

    /// A code that is never right here: it has more digits.
    fn send_wrong(&mut self, number: u32) -> Result<(), CodeError> {
        self.send(Code::new(10_000_000 + number).unwrap())
    }

    fn pause_by(&mut self, codes: std::ops::Range<u32>) {
        for number in codes {
            assert!(
                matches!(self.send_wrong(number), Err(CodeError::Wrong { .. })),
                "{number}"
            );
        }
    }

    fn restart(&mut self) {
        self.guard = CodeGuard::restore(&self.guard.row(self.now), self.now);
    }
}

fn paused(minutes: u64) -> Result<(), CodeError> {
    let left = Duration::from_mins(minutes);
    Err(CodeError::Paused { left })
}

#[test]
fn a_missing_code_is_refused_and_counts_nothing() {
    let mut scene = Scene::new();
    for _ in 0..20 {
        assert_eq!(
            scene.guard.judge(scene.now, &scene.secret, None),
            Err(CodeError::Missing)
        );
    }
    assert_eq!(scene.guard, CodeGuard::default());
}

#[test]
fn the_steps_before_and_after_are_good() {
    for steps in [-1, 0, 1] {
        let mut scene = Scene::new();
        assert_eq!(scene.send(scene.right(steps)), Ok(()), "{steps}");
    }
    for steps in [-2, 2] {
        let mut scene = Scene::new();
        assert_eq!(
            scene.send(scene.right(steps)),
            Err(CodeError::Wrong { count: 1 }),
            "{steps}"
        );
    }
}

#[test]
fn no_earlier_step_is_good_after_a_later_one() {
    let mut scene = Scene::new();
    let (before, present, after) = (scene.right(-1), scene.right(0), scene.right(1));
    assert_eq!(scene.send(present), Ok(()));
    assert_eq!(scene.send(before), Err(CodeError::Used));
    assert_eq!(scene.send(after), Ok(()));
    assert_eq!(
        scene.send(present),
        Err(CodeError::Used),
        "the exception is for the last code alone"
    );
}

#[test]
fn the_same_code_is_good_for_a_minute() {
    let mut scene = Scene::new();
    let code = scene.right(1);
    assert_eq!(scene.send(code), Ok(()));
    scene.pass(59);
    assert_eq!(scene.send(code), Ok(()));
    scene.pass(1);
    assert_eq!(
        scene.send(code),
        Err(CodeError::Used),
        "the minute is counted from the first use"
    );
}

#[test]
fn a_repeat_is_good_though_its_step_is_over() {
    let mut scene = Scene::new();
    scene.pass(44);
    let code = scene.right(-1);
    assert_eq!(scene.send(code), Ok(()));
    scene.pass(2);
    assert_eq!(scene.send(code), Ok(()), "sent in the last second of its step");
}

#[test]
fn a_restart_forgets_no_used_code() {
    let mut scene = Scene::new();
    let code = scene.right(0);
    assert_eq!(scene.send(code), Ok(()));
    scene.restart();
    assert_eq!(scene.send(code), Err(CodeError::Used));
    assert_eq!(scene.send(scene.right(1)), Ok(()));
}

#[test]
fn who_mistypes_once_is_not_locked_out_by_all_repeats() {
    let mut scene = Scene::new();
    for _ in 0..6 {
        assert_eq!(scene.send_wrong(1), Err(CodeError::Wrong { count: 1 }));
    }
    scene.pass(2);
    assert_eq!(scene.send(scene.right(0)), Ok(()));
}

#[test]
fn the_same_wrong_code_counts_again_after_a_minute() {
    let mut scene = Scene::new();
    for count in 1..=5 {
        assert_eq!(scene.send_wrong(1), Err(CodeError::Wrong { count }));
        scene.pass(60);
    }
    assert_eq!(scene.send(scene.right(0)), paused(9));
}

#[test]
fn five_different_ones_pause_and_pauses_double_up_to_an_hour() {
    let mut scene = Scene::new();
    for minutes in [10, 20, 40, 60, 60, 60] {
        scene.pause_by(0..5);
        assert_eq!(
            scene.send(scene.right(0)),
            paused(minutes),
            "a right one is not looked at"
        );
        scene.pass(60 * minutes - 1);
        assert!(matches!(scene.send_wrong(9), Err(CodeError::Paused { .. })));
        scene.pass(1);
    }
    assert_eq!(scene.send(scene.right(0)), Ok(()));
    scene.pause_by(0..5);
    assert_eq!(scene.send_wrong(0), paused(10), "a right one ends the row");
}

#[test]
fn a_right_one_ends_the_row() {
    let mut scene = Scene::new();
    scene.pause_by(0..4);
    assert_eq!(scene.send(scene.right(0)), Ok(()));
    scene.pause_by(0..4);
    scene.pass(30);
    assert_eq!(scene.send(scene.right(0)), Ok(()));
}

#[test]
fn a_used_code_neither_counts_nor_ends_the_row() {
    let mut scene = Scene::new();
    let old = scene.right(-1);
    assert_eq!(scene.send(scene.right(0)), Ok(()));
    for _ in 0..9 {
        assert_eq!(scene.send(old), Err(CodeError::Used));
    }
    scene.pause_by(0..4);
    assert_eq!(scene.send(old), Err(CodeError::Used));
    assert_eq!(scene.send_wrong(4), Err(CodeError::Wrong { count: 5 }));
    assert_eq!(scene.send(scene.right(1)), paused(10));
}

#[test]
fn a_restart_ends_neither_a_pause_nor_a_row() {
    let mut scene = Scene::new();
    scene.pause_by(0..3);
    scene.restart();
    scene.pause_by(3..5);
    scene.pass(60);
    scene.restart();
    assert_eq!(scene.send(scene.right(0)), paused(9));
    scene.pass(9 * 60);
    scene.restart();
    scene.pause_by(0..5);
    assert_eq!(scene.send(scene.right(0)), paused(20), "nor the doubling");
}

#[test]
fn a_clock_set_back_makes_no_pause_longer() {
    let mut scene = Scene::new();
    scene.pause_by(0..5);
    let row = scene.guard.row(scene.now);
    scene.now.wall = UnixTime::from_secs(1_000_000_000);
    scene.guard = CodeGuard::restore(&row, scene.now);
    assert_eq!(scene.send_wrong(0), paused(10));
}
