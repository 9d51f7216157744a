"""Which models bring a teacher of several views along."""

from dreamfusion.plan import plan_asset
from dreamfusion.recipe import AssetRecipe
from lab.kinds.view_teacher import views_of
from lab.main import main
from shared.artifacts.run_record import read_record
from shared.models.image_model import load_image_model
from tests.lab.kinds.test_asset import SHORT
from tests.tiny import build_image_folder
from tests.video.tiny import build_video_folder
from video.folder import load_temporal


def test_temporal_layers_that_know_of_cameras_are_a_teacher(tmp_path):
    assert views_of(load_image_model(build_image_folder(tmp_path / "image"))) is None
    assert views_of(load_image_model(build_video_folder(tmp_path / "clips"))) is None
    assert views_of(load_image_model(build_video_folder(tmp_path / "views", cameras=True))) is not None


def test_an_asset_of_several_views_at_once_is_made_and_made_again(tmp_path):
    model = build_video_folder(tmp_path / "model", cameras=True)
    made = {}
    for name in ("views", "image"):
        made[name] = tmp_path / f"{name}.glb"
        flags = ["--model", str(model), "--teacher", name, "-o", str(made[name])]
        assert main(["asset", "a red cube", *flags, *SHORT]) == 0
    assert made["views"].read_bytes() != made["image"].read_bytes()
    assert "temporal/diffusion_pytorch_model.safetensors" in read_record(made["views"]).model.hashes
    assert main(["rerun", str(made["views"])]) == 0
    assert (tmp_path / "views-rerun.glb").read_bytes() == made["views"].read_bytes()


def test_a_model_without_one_says_so(tmp_path, capsys):
    model = build_image_folder(tmp_path / "model")
    assert main(["asset", "a red cube", "--model", str(model), "--teacher", "views", *SHORT]) != 0
    assert "expected a model trained on views" in capsys.readouterr().err


def test_a_plan_counts_the_weights_of_both_once(tmp_path):
    model = build_video_folder(tmp_path / "model", cameras=True)
    recipe = AssetRecipe(
        prompt="a red cube", model=str(model), steps=2, mesh_resolution=24, render_size=16, teacher="auto"
    )
    image, video = load_image_model(model), load_temporal(model)
    networks = [image.unet, image.codec.vae, image.text.text_encoder, video]
    tensors = [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
    wanted = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    planned = plan_asset(recipe, views_of=views_of)
    assert planned.weights == wanted
    assert planned.flops > plan_asset(recipe.model_copy(update={"teacher": "image"}), views_of=views_of).flops
