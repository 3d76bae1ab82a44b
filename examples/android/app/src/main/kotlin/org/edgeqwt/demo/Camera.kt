// The camera's picture on a TextureView, which turns it upright by itself.
package org.edgeqwt.demo

import android.Manifest
import android.content.Context
import android.content.pm.PackageManager
import android.graphics.Bitmap
import android.graphics.SurfaceTexture
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.os.Handler
import android.view.Surface
import android.view.TextureView

/** Shows a camera on a view. `failed` gets a sentence where there is none. All calls are on the handler's thread. */
class Camera(
    private val context: Context,
    private val view: TextureView,
    private val handler: Handler,
    private val failed: (String) -> Unit,
) {
    private var device: CameraDevice? = null
    private var wanted = false

    /** Opens the back camera, or the first one; as soon as the view has a surface. */
    fun start() {
        wanted = true
        val texture = view.surfaceTexture
        if (texture != null) open(texture) else view.surfaceTextureListener = Listener()
    }

    /** Gives the camera back. */
    fun stop() {
        wanted = false
        device?.close()
        device = null
    }

    /** The middle of the picture in the model's proportions; null where there is no picture yet. */
    fun picture(width: Int, height: Int): IntArray? {
        val whole = (if (device == null) null else view.bitmap) ?: return null
        val share = minOf(whole.width.toFloat() / width, whole.height.toFloat() / height)
        val across = (width * share).toInt()
        val down = (height * share).toInt()
        val cut = Bitmap.createBitmap(whole, (whole.width - across) / 2, (whole.height - down) / 2, across, down)
        val small = Bitmap.createScaledBitmap(cut, width, height, true)
        val pixels = IntArray(width * height)
        small.getPixels(pixels, 0, width, 0, 0, width, height)
        return pixels
    }

    private fun open(texture: SurfaceTexture) {
        if (context.checkSelfPermission(Manifest.permission.CAMERA) != PackageManager.PERMISSION_GRANTED) return
        val manager = context.getSystemService(Context.CAMERA_SERVICE) as CameraManager
        try {
            val name = manager.cameraIdList.firstOrNull { facesBack(manager, it) } ?: manager.cameraIdList.firstOrNull()
            if (name == null) failed("This device has no camera.") else manager.openCamera(name, Opened(texture), handler)
        } catch (refused: CameraAccessException) {
            failed("The camera does not open: ${refused.message}")
        }
    }

    private fun facesBack(manager: CameraManager, name: String): Boolean =
        manager.getCameraCharacteristics(name).get(CameraCharacteristics.LENS_FACING) ==
            CameraCharacteristics.LENS_FACING_BACK

    private inner class Listener : TextureView.SurfaceTextureListener {
        override fun onSurfaceTextureAvailable(surface: SurfaceTexture, width: Int, height: Int) {
            if (wanted) open(surface)
        }

        override fun onSurfaceTextureSizeChanged(surface: SurfaceTexture, width: Int, height: Int) = Unit

        override fun onSurfaceTextureDestroyed(surface: SurfaceTexture): Boolean {
            stop()
            return true
        }

        override fun onSurfaceTextureUpdated(surface: SurfaceTexture) = Unit
    }

    private inner class Opened(private val texture: SurfaceTexture) : CameraDevice.StateCallback() {
        override fun onOpened(camera: CameraDevice) {
            if (!wanted) {
                camera.close()
                return
            }
            device = camera
            texture.setDefaultBufferSize(WIDTH, HEIGHT)
            val surface = Surface(texture)
            try {
                // Deprecated since API 28 and still there: it needs no executor of its own.
                @Suppress("DEPRECATION")
                camera.createCaptureSession(listOf(surface), Shown(camera, surface), handler)
            } catch (refused: CameraAccessException) {
                failed("The camera gives no picture: ${refused.message}")
            }
        }

        override fun onDisconnected(camera: CameraDevice) = stop()

        override fun onError(camera: CameraDevice, error: Int) {
            stop()
            failed("The camera ended with error $error.")
        }
    }

    private inner class Shown(private val camera: CameraDevice, private val surface: Surface) :
        CameraCaptureSession.StateCallback() {
        override fun onConfigured(session: CameraCaptureSession) {
            if (!wanted) return
            try {
                val request = camera.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW)
                request.addTarget(surface)
                session.setRepeatingRequest(request.build(), null, handler)
            } catch (refused: CameraAccessException) {
                failed("The camera gives no picture: ${refused.message}")
            } catch (closed: IllegalStateException) {
                return // closed meanwhile
            }
        }

        override fun onConfigureFailed(session: CameraCaptureSession) = failed("The camera refuses its preview.")
    }

    private companion object {
        // Every camera of Android gives 640 x 480; the view has the same proportions, upright.
        const val WIDTH = 640
        const val HEIGHT = 480
    }
}
