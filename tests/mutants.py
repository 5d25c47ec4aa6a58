"""Planted faults, each of which its test must find: ``make mutants`` runs them all.

``python tests/mutants.py 3 7`` runs some. Faults are planted in a copy of the repository.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from pacd.data import ROOT


class Fault(NamedTuple):
    """In ``file``, ``old`` becomes ``new``, and ``test`` fails."""

    file: str
    old: str
    new: str
    test: str


FAULTS = [
    Fault(
        "pacd/counts.py",
        "beta.ppf(alpha, np.maximum(k, 1), n - k + 1)",
        "beta.ppf(alpha, np.maximum(k, 1), n - k)",
        "test_certify.py::test_bound_fails_at_most_alpha",
    ),
    Fault(
        "pacd/counts.py",
        "low = np.where(k > 0, beta.ppf(alpha,",
        "low = np.where(k > 0, beta.ppf(2 * alpha,",
        "test_counts.py::test_lower_bound_is_the_beta_quantile",
    ),
    Fault(
        "pacd/counts.py",
        ".where(p > 0.5, ABSTAIN)",
        ".where(p > 0.4, ABSTAIN)",
        "test_counts.py::test_a_rate_that_may_be_a_half_certifies_nothing",
    ),
    Fault(
        "pacd/counts.py",
        '(rows["sigma"] * norm.ppf(p))',
        "norm.ppf(p)",
        "test_counts.py::test_rows_are_bounded_by_the_counts_of_their_guess",
    ),
    Fault(
        "pacd/counts.py",
        "alpha / looks",
        "alpha",
        "test_counts.py::test_rows_are_bounded_with_their_own_u_and_looks",
    ),
    Fault(
        "pacd/counts.py",
        "int(-np.log2(alpha)) + 1",
        "int(-np.log2(alpha))",
        "test_counts.py::test_fewest_draws",
    ),
    Fault(
        "pacd/counts.py",
        "2 * binom.sf(first - 1,",
        "binom.sf(first - 1,",
        "test_empirical.py::test_majority_is_the_two_sided_binomial_test",
    ),
    Fault(
        "pacd/certify.py",
        "manual_seed(2 * seed + stage)",
        "manual_seed(2 * seed)",
        "test_certify.py::test_no_two_streams_share_draws",
    ),
    Fault(
        "pacd/certify.py",
        "manual_seed(2 * seed + stage)",
        "manual_seed(seed + stage)",
        "test_certify.py::test_no_two_streams_share_draws",
    ),
    Fault(
        "pacd/certify.py",
        "alive = guess == y if stop_wrong",
        "alive = guess != y if stop_wrong",
        "test_certify.py::test_stopping_wrong_guesses_changes_no_radius",
    ),
    Fault(
        "pacd/certify.py",
        "normal_(0, sigma, generator=generator)",
        "normal_(0, 1.01 * sigma, generator=generator)",
        "test_oracle.py",
    ),
    Fault(
        "pacd/certify.py",
        "return votes.total(blocks).argmax(1)",
        "return votes.total(blocks).argmin(1)",
        "test_oracle.py",
    ),
    Fault(
        "pacd/votes.py",
        "wins = scores.argmax(1)[:, None]",
        "wins = scores.argmin(1)[:, None]",
        "test_oracle.py",
    ),
    Fault(
        "pacd/votes.py",
        "valid = valid & (lead > margin)",
        "valid = valid & (lead > -margin)",
        "test_certify.py::test_a_quick_network_votes_only_where_it_is_sure",
    ),
    Fault(
        "pacd/votes.py",
        "all(map(torch.equal, before, state(*networks)))",
        "all(map(torch.equal, before, before))",
        "test_certify.py::test_a_network_that_moves_slowly_in_evaluation_is_refused",
    ),
    Fault(
        "pacd/votes.py",
        "pairs = (together, back), (together[FEW], single), (outputs[:1], single[:1])",
        "pairs = ((outputs[:1], single[:1]),)",
        "test_certify.py::test_what_depends_on_the_batch_is_found_however_it_is_hidden",
    ),
    Fault(
        "pacd/votes.py",
        "        unmoved(self.before, *self.voting)\n",
        "",
        "test_certify.py::test_a_network_that_noise_moves_is_refused",
    ),
    Fault(
        "pacd/int8.py",
        "if is_plain(module, nn.Sequential):",
        "if isinstance(module, nn.Sequential):",
        "test_int8.py::test_layers_with_ways_of_their_own_keep_them",
    ),
    Fault(
        "study/intervals.py",
        "if (here[both] != there[both]).any():",
        "if False:",
        "test_intervals.py::test_settings_are_compared_seed_by_seed",
    ),
    Fault(
        "pacd/data.py",
        "most > 63",
        "most > 1",
        "test_data.py::test_grey_levels_of_fewer_bits_are_refused",
    ),
    Fault(
        "pacd/data.py",
        "order[:validation_size], order[validation_size:]",
        "order[:validation_size], order[validation_size - 1 :]",
        "test_data.py::test_torchvision_layout_is_read",
    ),
    Fault(
        "pacd/data.py",
        "pixels.transpose(0, 3, 1, 2))).float() / 255",
        "pixels.transpose(0, 3, 2, 1))).float() / 255",
        "test_data.py::test_npz_keeps_every_pixel",
    ),
    Fault(
        "pacd/poison_file.py",
        "math.floor(255 * eps_linf + 1e-6)",
        "math.ceil(255 * eps_linf - 1e-6)",
        "test_poison_file.py::test_eight_bits_never_leave_the_ball",
    ),
    Fault(
        "pacd/poison_file.py",
        ".round().clamp(-most, most)",
        ".round()",
        "test_poison_file.py::test_eight_bits_never_leave_the_ball",
    ),
    Fault(
        "pacd/poison_file.py",
        "(floats - clean).abs().max()",
        "(floats - clean).max()",
        "test_poison_file.py::test_the_ball_has_two_sides",
    ),
    Fault(
        "pacd/poison_file.py",
        "return hashlib.sha256(content + json.dumps(facts).encode())",
        "return hashlib.sha256(json.dumps(facts).encode())",
        "test_properties.py::test_any_other_byte_of_a_poison_is_refused",
    ),
    Fault(
        "pacd/attack.py",
        "self.images[places] = project(u, self.clean[places], eps)",
        "self.images[places] = u",
        "test_attack.py::test_poison_stays_in_the_ball_and_in_range_and_in_its_class",
    ),
    Fault(
        "pacd/attack.py",
        "u = u - method.step * self.direction",
        "u = u + method.step * self.direction",
        "test_attack.py::test_attack_succeeds_on_a_planted_problem",
    ),
    Fault(
        "pacd/attack.py",
        "problem.make_model(1000 * seed + step)",
        "problem.make_model(1000 * seed)",
        "test_attack.py::test_models_start_afresh_on_seeds_of_their_own_and_warm_up",
    ),
    Fault(
        "pacd/attack.py",
        "self.decay * self.sum[rows] + gradient / scale",
        "self.decay * self.sum[rows] + gradient",
        "test_attack.py::test_momentum_is_the_sign_of_a_decaying_sum_of_scaled_gradients",
    ),
    Fault(
        "pacd/controls.py",
        "project(clean + change, clean, problem.eps_linf)",
        "(clean + change)",
        "test_controls.py::test_controls_have_the_attacks_budget",
    ),
    Fault(
        "pacd/hypergradient.py",
        "-mixed if direct is None else direct - mixed",
        "-mixed if direct is None else direct + mixed",
        "test_hypergradient.py::test_an_outer_objective_that_sees_the_poison_itself",
    ),
    Fault(
        "pacd/hypergradient.py",
        "[h + damping * x for h, x in zip(products, v)]",
        "[h - damping * x for h, x in zip(products, v)]",
        "test_hypergradient.py::test_damping_is_added_to_the_diagonal",
    ),
    Fault(
        "pacd/hypergradient.py",
        "p = plus(r, rr / before, p)",
        "p = plus(r, 0, p)",
        "test_hypergradient.py::test_every_solver_converges_and_reports_its_residual",
    ),
    Fault(
        "pacd/losses.py",
        "(epoch + 1) / warmup",
        "epoch / warmup",
        "test_losses.py::test_smoothadv_warms_up_linearly",
    ),
    Fault(
        "pacd/losses.py",
        "classification + lam * sigma / 2 * robustness",
        "classification + lam * sigma * robustness",
        "test_losses.py::test_macer",
    ),
    Fault(
        "pacd/smoothing.py",
        "x.repeat_interleave(draws, dim=0)",
        "x.repeat(draws, 1, 1, 1)",
        "test_smoothing.py::test_draws_of_one_image_are_neighbours_under_noise_of_its_own",
    ),
    Fault(
        "pacd/smoothing.py",
        "radius = sigma / 2 * margin",
        "radius = sigma * margin",
        "test_smoothing.py::test_soft_radius_equals_the_formula_and_keeps_its_sign",
    ),
    Fault(
        "pacd/models.py",
        "/ 0.87962566",
        "",
        "test_models.py::test_a_resnets_weights_are_he_normal_cut_at_two_deviations",
    ),
    Fault(
        "pacd/train.py",
        "(1 + math.cos(math.pi * step / steps)) / 2",
        "(3 + math.cos(math.pi * step / steps)) / 4",
        "test_train.py::test_a_cosine_schedule_falls_to_zero",
    ),
    Fault(
        "pacd/train.py",
        "generator = torch.Generator(x.device).manual_seed(seed)",
        "generator = torch.Generator(x.device).manual_seed(0)",
        "test_train.py::test_the_noise_of_a_loss_is_a_function_of_the_seed",
    ),
    Fault(
        "pacd/empirical.py",
        "majority(counts, alpha / len(radii))",
        "majority(counts, alpha)",
        "test_empirical.py::test_the_tests_of_a_point_share_alpha",
    ),
    Fault(
        "pacd/empirical.py",
        "manual_seed(2**31 + seed)",
        "manual_seed(2**31)",
        "test_empirical.py::test_attacks_and_certificates_share_no_noise",
    ),
    Fault(
        "pacd/direct_search.py",
        "sums[place] += line",
        "sums[place] = line",
        "test_direct_search.py::test_radii_of_all_rounds_count",
    ),
    Fault(
        "pacd/curation.py",
        "distance[range(len(rows)), rows] = torch.inf",
        "pass",
        "test_curation.py::test_an_image_is_no_neighbour_of_its_own",
    ),
    Fault(
        "study/rows.py",
        'if facts.get("sha256") != seal(facts, path.read_bytes()):',
        'if "sha256" not in facts:',
        "test_properties.py::test_any_other_byte_of_rows_is_refused",
    ),
    Fault(
        "study/intervals.py",
        "variance = v_seeds + v_points",
        "variance = v_points",
        "test_intervals.py::test_seeds_and_points_that_vary_alike_double_variance_and_freedom",
    ),
    Fault(
        "study/intervals.py",
        "variance = v_seeds + v_points",
        "variance = v_seeds",
        "test_intervals.py::test_interval_of_unlike_parts",
    ),
    Fault(
        "study/intervals.py",
        "drop, quantile = 1 - ratio, (1 + level) / 2",
        "drop, quantile = 1 - ratio, level",
        "test_intervals.py::test_interval_of_unlike_parts",
    ),
    Fault(
        "study/intervals.py",
        "inner = stats.t.ppf(quantile, seeds - 1)",
        "inner = stats.t.ppf(quantile, seeds)",
        "test_intervals.py::test_where_only_seeds_vary_both_intervals_are_the_t_interval_of_the_seeds",
    ),
    Fault(
        "study/intervals.py",
        "influence = (poisoned - ratio * clean)",
        "influence = (poisoned + ratio * clean)",
        "test_intervals.py::test_drop_of_a_small_table",
    ),
    Fault(
        "study/intervals.py",
        "values.std(0, ddof=1) / np.sqrt(count)",
        "values.std(0, ddof=0) / np.sqrt(count)",
        "test_intervals.py::test_mean_interval_is_the_t_interval_of_each_column",
    ),
    Fault(
        "study/intervals.py",
        "[:, None] >= np.asarray(radii)",
        "[:, None] > np.asarray(radii)",
        "test_intervals.py::test_numbers_of_a_small_table",
    ),
    Fault(
        "study/intervals.py",
        "yield statistic(clean[chosen], poisoned[chosen])",
        "yield statistic(clean[chosen], poisoned)",
        "test_intervals.py::test_bootstrap_draws_the_same_seeds_and_points_on_both_sides",
    ),
    Fault(
        "study/intervals.py",
        "multivariate_hypergeometric(counts[row], n)",
        "multinomial(n, counts[row] / counts[row].sum())",
        "test_counts.py::test_fewer_draws_are_a_part_of_those_made",
    ),
    Fault(
        "study/named.py",
        "        _execute(module, text)\n        _TEXTS[file] = text",
        "        _TEXTS[file] = text",
        "test_named.py::test_an_edited_module_of_a_package_runs_as_it_now_is",
    ),
    Fault(
        "study/answers.py",
        "index.shape == asked.shape",
        "index.shape == (len(index),) != (0,)",
        "test_answers.py::test_an_attack_poisons_the_fraction_that_its_manifest_will_name",
    ),
    Fault(
        "study/answers.py",
        "checked.capturable = False",
        "checked.capturable = True",
        "test_answers.py::test_a_brought_loss_is_never_captured",
    ),
    Fault(
        "study/answers.py",
        "answer = clean(x.clone(), y.clone())",
        "answer = clean(x, y)",
        "test_answers.py::test_a_curator_sees_copies",
    ),
    Fault(
        "study/answers.py",
        "bool(torch.isin(labels, y).all())",
        "True",
        "test_answers.py::test_a_curator_answers_images_and_their_labels",
    ),
    Fault(
        "study/answers.py",
        "bool(places[0] & places[1])",
        "False",
        "test_answers.py::test_a_network_is_a_new_module_each_time_and_makes_logits",
    ),
    Fault(
        "study/bring.py",
        "changed = _steps(images - clean)",
        "changed = (images != clean)",
        "test_bring.py::test_an_image_that_only_rounding_moves_is_not_changed",
    ),
    Fault(
        "study/bring.py",
        "measured <= OBVIOUS",
        "measured <= 1",
        "test_bring.py::test_bad_input_is_one_sentence_and_leaves_nothing",
    ),
    Fault(
        "extras/unlearnable.py",
        "weights = weights / weights.sum(1, keepdim=True)",
        "weights = weights / weights.abs().sum(1, keepdim=True)",
        "test_unlearnable.py::test_the_filter_of_one_image_annihilates_the_noise_of_another",
    ),
    Fault(
        "extras/unlearnable.py",
        "(wanted - (images @ weights.T).softmax(1))",
        "((images @ weights.T).softmax(1) - wanted)",
        "test_unlearnable.py::test_another_linear_classifier_has_less_loss_on_its_poison",
    ),
    Fault(
        "extras/unlearnable.py",
        "if x.requires_grad:",
        "if not x.requires_grad:",
        "test_unlearnable.py::test_the_stable_model_is_attacked_and_its_noise_is_not",
    ),
    Fault(
        "extras/unlearnable.py",
        "filtered / filtered.amax((1, 2, 3), keepdim=True)",
        "filtered / filtered.amax()",
        "test_unlearnable.py::test_a_convolution_is_scipys",
    ),
    Fault(
        "extras/curators.py",
        "denoise_tv_chambolle(image, weight,",
        "denoise_tv_chambolle(image, 2 * weight,",
        "test_extras_curators.py::test_total_variation_fades_a_band_by_its_length_of_border",
    ),
    Fault(
        "extras/curators.py",
        ".amax(1).mean()",
        ".mean()",
        "test_extras_curators.py::test_the_worst_augmentation_of_each_image_counts",
    ),
    Fault(
        "extras/highpass.py",
        "rows[0] = math.sqrt(1 / n)",
        "rows[0] = math.sqrt(2 / n)",
        "test_highpass.py::test_components_are_ordered_and_orthonormal",
    ),
    Fault(
        "extras/highpass.py",
        "key=lambda pair: (sum(pair), pair)",
        "key=lambda pair: pair",
        "test_highpass.py::test_the_low_components_go_and_the_others_stay",
    ),
    Fault(
        "extras/highpass.py",
        "(channels - channels @ self.low.T @ self.low)",
        "(channels @ self.low.T @ self.low)",
        "test_highpass.py::test_one_component_is_the_mean_of_each_channel",
    ),
    Fault(
        "extras/highpass.py",
        ".clamp_min(self.LEAST**2)",
        ".clamp_min(0)",
        "test_highpass.py::test_a_blank_image_stays_blank_and_has_a_gradient",
    ),
    Fault(
        "pacd/models.py",
        "if not is_plain(layer, *AFFINE))",
        "if is_plain(layer, nn.ReLU))",
        "test_highpass.py::test_votes_are_those_of_the_whole_network",
    ),
    Fault(
        "pacd/models.py",
        "return square and pool.extra_repr() == nn.MaxPool2d(pool.stride).extra_repr()",
        "return square",
        "test_certify.py::test_windows_of_a_pool_are_shared_where_they_lie_side_by_side",
    ),
    Fault(
        "study/grid.py",
        "not _lacking(paper, e)",
        "paper.missing(e)",
        "test_shown.py::test_an_experiment_is_shown_when_its_last_run_is_there",
    ),
    Fault(
        "study/theory_projection.py",
        "np.minimum(eps, 1 - x)",
        "np.minimum(eps, 1 + x)",
        "test_theory_projection.py::test_box_of_the_mean",
    ),
]


def run(tree, tests):
    """The exit status of pytest: 0 where all pass, 1 where one fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", *(f"tests/{t}" for t in tests)]
    return subprocess.run(command, cwd=tree, capture_output=True).returncode


def survives(tree, fault):
    """Whether a fault is not found by its test; planted in ``tree`` and taken out again."""
    path = tree / fault.file
    source = path.read_text()
    if source.count(fault.old) != 1:
        raise ValueError(f"{fault.file} must hold {fault.old!r} once.")
    path.write_text(source.replace(fault.old, fault.new))
    try:
        return run(tree, [fault.test]) != 1
    finally:
        path.write_text(source)


def main(numbers):
    chosen = [(i, fault) for i, fault in enumerate(FAULTS, 1) if not numbers or i in numbers]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        skipped = shutil.ignore_patterns(
            ".*", "data", "_build", "runs", "__pycache__", "*.egg-info"
        )
        shutil.copytree(ROOT, tree, ignore=skipped)
        if run(tree, dict.fromkeys(fault.test for _, fault in chosen)):
            return "a test fails without a fault."
        survivors = 0
        for i, fault in chosen:
            found = not survives(tree, fault)
            survivors += not found
            print(
                f"{i:2d} {'found' if found else 'SURVIVES'}: {fault.file}: {fault.new}", flush=True
            )
    print(f"{len(chosen) - survivors} of {len(chosen)} found")
    return survivors


if __name__ == "__main__":
    sys.exit(main([int(number) for number in sys.argv[1:]]))
