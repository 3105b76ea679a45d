// Checkpoints: resumed at the same layout, loaded at others.
#include <string>
#include <vector>

#include "core/base/error.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/verify/checks.h"
#include "launch/verify/compare.h"

namespace witan {
namespace {

using configs::RunConfig;

constexpr int kStepsBefore = 3, kStepsAfter = 3;

std::vector<StepMetrics> run_steps(VerifySession& session, int steps) {
  std::vector<StepMetrics> all;
  for (int i = 0; i < steps; ++i) all.push_back(session.trainer().step(false));
  return all;
}

// Collective over the session's mesh, all of whose ranks call it.
void save(const VerifyContext& context, const std::string& check, const std::string& folder,
          VerifySession& session) {
  save_checkpoint(folder, session.run(), session.params(), &session.trainer().optimizer(),
                  session.trainer().state(), session.mesh(), 1);
  if (session.mesh().world_rank() == 0 && context.world.rank() == 0 && context.hooks.after_save) {
    context.hooks.after_save(check, folder);
  }
}

void load(const VerifyContext& context, const std::string& check, const std::string& folder,
          VerifySession& session) {
  const TrainState state = load_checkpoint(folder, session.run(), session.params(),
                                           session.trainer().optimizer(), session.mesh());
  session.trainer().restore(state);
  if (context.hooks.after_load) context.hooks.after_load(check, session.params());
}

RunConfig training_config(const VerifyContext& context) {
  RunConfig run = context.run;
  run.mutable_checkpoint()->set_optimizer_state(true);
  return run;
}

// A run of a few steps in folder NAME.
std::string checkpoint_of(const VerifyContext& context, const std::string& name) {
  return checkpoint_folder(context.folder + "/" + name, kStepsBefore);
}

// Runs `body`, whose errors become the result's.
template <class Body>
CheckResult attempt(const std::string& check, const std::string& variant, Body&& body) {
  CheckResult result;
  result.check = check;
  result.variant = variant;
  try {
    body(result);
  } catch (const UserError& error) {  // of a checkpoint: the same on every rank
    result.failure = error.what();
  }
  return result;
}

// What a fresh session loads from `folder`, against `whole`, which one rank alone has loaded.
CheckResult compare_loaded(const VerifyContext& context, const std::string& folder,
                           const Mesh& mesh, const std::string& variant, VerifySession& whole) {
  return attempt("reshape", variant, [&](CheckResult& result) {
    VerifySession session(training_config(context), mesh, context.runtime);
    load(context, "reshape", folder, session);
    Errors errors(session.table());
    compare_values(session.params(), whole.params(), errors);
    compare_moments(session.params(), session.trainer().optimizer(), whole.params(),
                    whole.trainer().optimizer(), errors);
    errors.agree(context.world);
    errors.report(result);
  });
}

}  // namespace

std::vector<CheckResult> check_resume(const VerifyContext& context) {
  const Mesh mesh = context.mesh(context.expert_parallel());
  const RunConfig run = training_config(context);
  const std::string folder = checkpoint_of(context, "resume");
  return {attempt("resume",
                  std::string("EP ") + std::to_string(mesh.expert_parallel()) + ", " +
                      name_of(run.runtime().precision()),
                  [&](CheckResult& result) {
                    VerifySession whole(run, mesh, context.runtime);
                    whole.wake();
                    run_steps(whole, kStepsBefore);
                    save(context, "resume", folder, whole);
                    context.world.barrier();
                    const std::vector<StepMetrics> expected = run_steps(whole, kStepsAfter);

                    VerifySession resumed(run, mesh, context.runtime);
                    load(context, "resume", folder, resumed);
                    const std::vector<StepMetrics> found = run_steps(resumed, kStepsAfter);
                    Errors errors(resumed.table());
                    compare_values(resumed.params(), whole.params(), errors);
                    compare_moments(resumed.params(), resumed.trainer().optimizer(), whole.params(),
                                    whole.trainer().optimizer(), errors);
                    for (std::size_t i = 0; i < found.size(); ++i) {
                      compare_steps(found[i], expected[i], errors);
                    }
                    errors.agree(context.world);
                    errors.report(result);
                  })};
}

std::vector<CheckResult> check_reshape(const VerifyContext& context) {
  const Mesh mesh = context.mesh(context.expert_parallel());
  const Mesh alone = context.alone();
  const RunConfig run = training_config(context);
  const std::string saved_by_all = checkpoint_of(context, "reshape");
  VerifySession source(run, mesh, context.runtime);
  source.wake();
  run_steps(source, kStepsBefore);
  save(context, "reshape", saved_by_all, source);
  context.world.barrier();

  std::vector<CheckResult> results;
  const std::string saved = "saved at EP " + std::to_string(mesh.expert_parallel());
  VerifySession whole(run, alone, context.runtime);
  results.push_back(attempt("reshape", saved + ", loaded by one rank", [&](CheckResult& result) {
    load(context, "reshape", saved_by_all, whole);
    Errors errors(source.table());
    compare_values(source.params(), whole.params(), errors);
    compare_moments(source.params(), source.trainer().optimizer(), whole.params(),
                    whole.trainer().optimizer(), errors);
    errors.agree(context.world);
    errors.report(result);
  }));
  if (!results.back().passed()) return results;  // there is nothing to compare with

  const std::int64_t experts = run.model().has_moe() ? run.model().moe().experts() : 1;
  for (int ep = 1; ep <= context.ranks(); ++ep) {
    if (context.ranks() == 1 || context.ranks() % ep != 0 || experts % ep != 0) continue;
    results.push_back(compare_loaded(context, saved_by_all, context.mesh(ep),
                                     saved + ", loaded at EP " + std::to_string(ep), whole));
  }
  const std::string saved_by_one = checkpoint_of(context, "reshape-one");
  if (context.world.rank() == 0) save(context, "reshape", saved_by_one, whole);
  context.world.barrier();
  results.push_back(compare_loaded(
      context, saved_by_one, mesh,
      "saved by one rank, loaded at EP " + std::to_string(mesh.expert_parallel()), whole));
  return results;
}

}  // namespace witan
