/* test_check.c - `retort check`: every problem in one pass, with its remedy; nothing is refused
 * that is fine. Intervals of mIoU. */
#include "measure.h"
#include "program.h"
#include "small_camvid.h"
#include "data/survey.h"
#include "train/trainer.h"

#define STUDENT "student.model=deeplabv3_mobilenetv2", "student.width=0.1", "train.batch=2", "eval.split=train"

TEST(a_sound_training_has_no_problems) {
    EXPECT_OK(make_camvid(8));
    EXPECT_RUNS("check", "data=camvid:.", STUDENT, "distill.task=rdd", "distill.task.tfe=entropy",
                "teacher.model=deeplabv3_resnet18", "teacher.weights=formula:1", "check.floor=0",
                "check.seconds=0");
    EXPECT_HAS(ran.out, "camvid/train: 2 of 2 samples looked at, 0 cannot be used, 10x12 to 10x12");
    EXPECT_HAS(ran.out, "car\n");
    EXPECT_HAS(ran.out, "building   never seen");
    EXPECT_HAS(ran.out, "note: camvid/train: 9 of 11 classes never seen in 2 labels: building, pole");
    EXPECT_HAS(ran.out, "backbone starts from random weights");
    EXPECT_HAS(ran.out, "one step of the first stage");
    EXPECT_HAS(ran.out, "one step of the second stage");
    EXPECT_HAS(ran.out, "memory: training ");
    EXPECT_HAS(ran.out, "expected: 40000 steps of ");
    EXPECT_HAS(ran.out, "the second stage kept no pixel here");
    EXPECT_HAS(ran.out, "the teacher's mIoU on train");
    EXPECT_HAS(ran.out, "by 2 of 2 images");
    EXPECT_HAS(ran.out, "check: 0 problems");
}

/* Three faults of three kinds in one pass, and what is sound is still measured. */
TEST(all_problems_are_told_in_one_pass) {
    EXPECT_OK(make_camvid(34));
    EXPECT_OK(put_image("train/c.png", 9, 13));
    EXPECT_OK(put_label("trainannot/c.png", 10, 12, 0, 0, 0));
    EXPECT_OK(put_image("train/d.png", 10, 12));
    EXPECT_OK(put_image("trainannot/d.png", 10, 12));
    EXPECT_OK(put_text("train.txt", "train/a.png trainannot/a.png\ntrain/b.png trainannot/b.png\n"
                                    "train/c.png trainannot/c.png\ntrain/d.png trainannot/d.png\n"));
    RETORT("check", "data=camvid:.", "student.model=deeplabv3_mobilenet", "eval.split=val");
    EXPECT_INT(ran.code, 3);
    EXPECT_HAS(ran.out, "E3034 ./trainannot/b.png: label id 34 at (3,2)");
    EXPECT_HAS(ran.out, "E3033 ./trainannot/c.png");
    EXPECT_HAS(ran.out, "E3036 ./trainannot/d.png: the label map is RGB colour");
    EXPECT_HAS(ran.out, "E3030 ./val.txt: no such list file");
    EXPECT_HAS(ran.out, "did you mean deeplabv3_mobilenetv2?");
    EXPECT_HAS(ran.err, "5 problems; the first: ./trainannot/");
}

TEST(a_teacher_surely_below_the_floor_is_refused) {
    EXPECT_OK(make_camvid(8));
    RETORT("check", "data=camvid:.", STUDENT, "teacher.model=deeplabv3_resnet18",
           "teacher.weights=formula:1", "check.floor=1");
    EXPECT_INT(ran.code, 4);
    EXPECT_HAS(ran.out, "below check.floor=1: check teacher.weights, teacher.norm");
}

#define TINY "data=scenes", "data.scenes.size=32x48", "data.scenes.train=6", "data.scenes.val=40", \
             "student.model=deeplabv3_mobilenetv2", "student.width=0.1", "train.batch=2", "train.steps=2", "out=run"

/* The same look before the first step of a training, into its log; a run that goes on has had it. */
TEST(a_training_is_checked_when_it_begins) {
    static char log[TEXT_MAX];
    RETORT("train", TINY, "teacher.model=deeplabv3_mobilenetv2", "teacher.width=0.1", "teacher.weights=formula:1",
           "check.floor=1", "check=full");
    EXPECT_INT(ran.code, 4);
    EXPECT_HAS(ran.err, "problem 1: E4000 the teacher's mIoU is at most");
    EXPECT_HAS(ran.err, "check=off trains all the same");
    read_text("run/log.txt", log);
    EXPECT_HAS(log, "the teacher's mIoU on val:");
    EXPECT(!strstr(ran.err, "done: "));
    EXPECT_RUNS("train", TINY, "check=off");
    EXPECT(!strstr(ran.err, "samples looked at"));
    EXPECT_RUNS("train", TINY);
    EXPECT(!strstr(ran.err, "samples looked at"));
}

/* One fault in many files is one problem; a split of which nothing can be used has no table. */
TEST(faults_of_one_kind_are_one_problem) {
    static char list[TEXT_MAX], name[3][32];
    size_t at = 0;
    EXPECT_OK(make_camvid(8));
    for (int i = 0; i < 15; i++) { /* twelve ids that no class has, three of another kind */
        snprintf(name[0], sizeof name[0], "train/m%d.png", i);
        snprintf(name[1], sizeof name[1], "trainannot/m%d.png", i);
        EXPECT_OK(put_image(name[0], 10, 12));
        EXPECT_OK(i < 12 ? put_label(name[1], 10, 12, 3, 2, 34) : put_image(name[1], 10, 12));
        at += (size_t)snprintf(list + at, sizeof list - at, "%s %s\n", name[0], name[1]);
    }
    EXPECT_OK(put_text("train.txt", list));
    EXPECT_OK(put_text("val.txt", list));
    RETORT("check", "data=camvid:.", "student.model=deeplabv3_mobilenetv2", "eval.split=val", "check=full");
    EXPECT_INT(ran.code, 3);
    EXPECT_HAS(ran.out, "no step was tried: samples that it needs cannot be used");
    EXPECT_HAS(ran.out, "  24 of this kind in all; the next: ./trainannot/m");      /* of both splits */
    EXPECT_HAS(ran.out, "  6 of this kind in all; the next: ./trainannot/m");
    EXPECT_HAS(ran.out, "check: 3 problems");                    /* and val's images are in train */
    int named = 0;
    for (const char *p = ran.out; (p = strstr(p, "trainannot/m")); p++) named++;
    EXPECT_INT(named, 2 * FAULT_EXAMPLES);
    EXPECT(!strstr(ran.out, "share %"));
    EXPECT(!strstr(ran.out, "void: "));
}

/* What time did not allow is named. */
TEST(what_was_not_reached_is_named) {
    EXPECT_RUNS("check", TINY, "data.scenes.val=20000", "check.seconds=0.01", "check.floor=0", "teacher.model=deeplabv3_resnet18",
                "teacher.weights=formula:1");
    EXPECT_HAS(ran.out, "not reached within check.seconds=0.01: ");
    EXPECT_RUNS("check", TINY, "check.seconds=1e6");             /* a limit far away leaves nothing out */
    EXPECT_HAS(ran.out, "one step of the second stage");
    EXPECT(!strstr(ran.out, "not reached"));
}
/* Steps and images of the teacher that take many times as long are left in the middle, or not begun. */
TEST(a_long_step_is_cut_short) {
    const double start = children_cpu_s();
    EXPECT_RUNS("check", "data=scenes", "data.scenes.size=720x720", "data.scenes.train=2", "data.scenes.val=2",
                "student.model=deeplabv3_resnet18", "batch=2", "steps=10", "teacher.model=deeplabv3_resnet101",
                "teacher.weights=formula:1", "distill.losses=[kd]", "check.floor=0", "check.seconds=3", "out=run");
    const double took = children_cpu_s() - start;
    if (!SANITIZED && took > 9) FAIL("%.1f s, with check.seconds=3", took);
    EXPECT_HAS(ran.out, "not reached within check.seconds=3: ");
    EXPECT_HAS(ran.out, "a step of either stage");
}

TEST(weights_are_told_tensor_by_tensor) {
    EXPECT_RUNS("train", TINY, "check=off");
    RETORT("check", TINY, "student.weights=run/last.safetensors", "teacher.model=pspnet_mobilenetv2", "teacher.width=0.1",
           "teacher.weights=run/last.safetensors");
    EXPECT_INT(ran.code, 4);
    EXPECT_HAS(ran.out, "student: run/last.safetensors: 350 of 350 tensors match");
    EXPECT_HAS(ran.out, "problem 1: E4061 run/last.safetensors: ");
    EXPECT_HAS(ran.out, " missing: head.psp.conv1.0.weight");
    EXPECT_HAS(ran.out, "no step was tried: a network is missing or does not fit");
}

/* The list picks from as many classes as the teacher's file has, be it named or a run. */
TEST(a_teacher_of_other_classes_may_be_a_file) {
#define LIST "teacher.classes=[10,9,8,7,6,5,4,3,2,1,0]", "distill.losses=[kd]", "check.seconds=0", "check.floor=0"
    EXPECT_RUNS("train", TINY, "check=off");
    EXPECT_RUNS("check", TINY, "teacher.model=run", LIST);
    EXPECT_HAS(ran.out, "check: 0 problems");
    EXPECT_RUNS("check", TINY, "teacher.model=deeplabv3_mobilenetv2", "teacher.width=0.1",
                "teacher.weights=run/last.safetensors", LIST);
    EXPECT_HAS(ran.out, "check: 0 problems");
}

TEST(memory_that_is_not_there_is_refused) {
    RETORT("check", "data=scenes", "data.scenes.size=32x48", "data.scenes.train=8", "data.scenes.val=2",
           "student.model=deeplabv3_mobilenetv2", "data.crop=2000x2000", "train.batch=64");
    EXPECT_INT(ran.code, 7);
    EXPECT_HAS(ran.out, "E7023 activations: out of memory");     /* E7024 where the parts fit, but not their sum */
    EXPECT_HAS(ran.out, "use a smaller batch or crop");
}

/* Images that all are alike leave no doubt; two unlike ones give the range between them. */
TEST(interval_is_that_of_the_images) {
    int64_t alike[10 * 6], unlike[2 * 6] = {10, 10, 10, 10, 10, 10, 0, 10, 10, 0, 10, 10};
    double ci[2];
    for (int i = 0; i < 10; i++)
        memcpy(alike + 6 * i, (int64_t[]){5, 10, 5, 10, 10, 15}, 6 * sizeof *alike);
    scores_interval(alike, 10, 2, 1, ci);
    EXPECT_NEAR(ci[0], (5.0 / 10 + 10.0 / 15) / 2, 1e-12);
    EXPECT_NEAR(ci[1], ci[0], 1e-12);
    scores_interval(unlike, 2, 2, 1, ci);
    EXPECT_NEAR(ci[0], 0, 1e-12);
    EXPECT_NEAR(ci[1], 1, 1e-12);
    Confusion *m = confusion_open(2);
    memcpy(m->count, (int64_t[]){5, 5, 0, 10}, 4 * sizeof *m->count);
    int64_t counts[6];
    confusion_counts(m, counts);
    EXPECT(!memcmp(counts, alike, sizeof counts));
    confusion_close(m);
}

TEST_MAIN(T(a_sound_training_has_no_problems), T(all_problems_are_told_in_one_pass),
          T(a_teacher_surely_below_the_floor_is_refused), T(a_training_is_checked_when_it_begins),
          T(faults_of_one_kind_are_one_problem), T(what_was_not_reached_is_named),
          T(a_long_step_is_cut_short), T(weights_are_told_tensor_by_tensor),
          T(a_teacher_of_other_classes_may_be_a_file), T(memory_that_is_not_there_is_refused),
          T(interval_is_that_of_the_images))
